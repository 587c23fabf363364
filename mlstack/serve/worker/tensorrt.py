"""TensorRT before CUDA, where `serve.tensorrt` asks for it: what it needs, and what is kept.

Building an engine takes minutes, so each is kept in a folder of the GPU and the versions that it
was built with, for it runs with no others, and below that in one of the graph's SHA-256 and the
most rows of a call. A server that starts deletes those of graphs that are no more (`engines`).
"""

import ctypes
import importlib.util
import re
from pathlib import Path
from typing import Any

import onnxruntime as ort

from mlstack import files
from mlstack.errors import DataError, MachineError
from mlstack.records.package import Tensor
from mlstack.serve.engines import claim
from mlstack.serve.worker import cuda
from mlstack.serve.worker.runner import Runner

# What the provider of ONNX Runtime 1.31 is linked with.
LIBRARIES = ("libnvinfer.so.10", "libnvinfer_plugin.so.10", "libnvonnxparser.so.10")
PACKAGE = "tensorrt_libs"  # the libraries from PyPI, which the system does not find by itself


def refuse_absent(*, on_gpu: bool) -> None:
    """Refuse to serve without TensorRT where it was asked for.

    Args:
        on_gpu: whether the graph runs with CUDA.

    Raises:
        MachineError: it is not there; the hint says what to install.
    """
    cause, hint = _missing() if on_gpu else cuda.missing()
    if cause or not on_gpu:
        raise MachineError(
            f"TensorRT was asked for (`serve.tensorrt`): {cause or 'no GPU is used'}",
            hint=f"{hint or 'see what `mlstack doctor` says'}; or set `serve.tensorrt: false`",
        )


def options(runner: Runner, largest: int, engines: Path, gpu: int) -> dict[str, Any]:
    """Give the provider's options for a graph that runs with CUDA.

    The batch sizes that an engine is built for are those of the settings, not the measured ones,
    which differ a little from start to start: each change would build it anew.

    Args:
        runner: of the graph.
        largest: number of rows in a call.
        engines: the folder of all engines.
        gpu: which of the visible GPUs.

    Raises:
        DataError: an engine would be built for every size that a request brings.
    """
    if runner.zeros(1) is None:
        raise DataError(
            f"`{runner.model}` leaves sizes of its inputs open", hint="set `serve.tensorrt: false`"
        )
    folder = engines / _built_with(gpu) / f"{files.sha256(runner.model)}-{largest}"
    claim(folder, runner.model)
    shapes = [t for t in runner.inputs if t.shape[0] == -1]
    profile = {
        "trt_profile_min_shapes": _profile(shapes, 1),
        "trt_profile_opt_shapes": _profile(shapes, largest),
        "trt_profile_max_shapes": _profile(shapes, largest),
    }
    return {
        "device_id": gpu,
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": str(folder.parent),
        # nothing is rounded that the gates have not seen rounded
        "trt_fp16_enable": runner.precision == "fp16",
        "trt_int8_enable": runner.precision.startswith("int8-static"),
        **(profile if shapes else {}),
    }


def _missing() -> tuple[str, str]:
    if cuda.TENSORRT not in ort.get_available_providers():
        return "this ONNX Runtime is built without it", "pip install onnxruntime-gpu"
    for library in LIBRARIES:
        if not _loads(library):
            return f"`{library}` does not load", f"pip install 'tensorrt-cu{cuda.major()}<11'"
    return "", ""


def _loads(library: str) -> bool:
    found = importlib.util.find_spec(PACKAGE)
    folders = (found.submodule_search_locations or []) if found is not None else []
    return any(cuda.loads(f"{folder}/{library}") for folder in folders) or cuda.loads(library)


def _built_with(gpu: int) -> str:
    text = f"{cuda.name_of(gpu)} TensorRT {_version()} ONNX Runtime {ort.__version__}"
    return re.sub(r"[^A-Za-z0-9.]+", "-", text)


def _version() -> int:
    return int(ctypes.CDLL(LIBRARIES[0]).getInferLibVersion())


def _profile(tensors: list[Tensor], rows: int) -> str:
    return ",".join(f"{t.name}:{'x'.join(map(str, [rows, *t.shape[1:]]))}" for t in tensors)
