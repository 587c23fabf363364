"""The machine and the libraries a run is trained with, read without importing any of them."""

import os
import platform
from importlib import metadata

from mlstack.launch.gpus import Gpu
from mlstack.records.run import Environment

PACKAGES = (
    "mlstack",
    "torch",
    "pytorch-lightning",
    "torchmetrics",
    "torchvision",
    "numpy",
    "pillow",
    "pyarrow",
    "scikit-learn",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "onnxruntime-gpu",
    "optuna",
    "dvc",
)


def describe(gpus: list[Gpu]) -> Environment:
    """Describe this machine, with the GPUs that were found."""
    return Environment(
        python=platform.python_version(),
        platform=platform.platform(),
        cpu_count=os.cpu_count() or 1,
        gpus=[f"{g.index}: {g.name} {g.memory_mib} MiB ({g.uuid})" for g in gpus],
        packages={name: version for name in PACKAGES if (version := _version(name))},
    )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
