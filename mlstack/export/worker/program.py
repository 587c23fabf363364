"""The trained module as torch's own exported program: what converters without ONNX begin with."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

from mlstack.config import Config
from mlstack.export.handover import ConvertRequest
from mlstack.export.worker.arrays import opened
from mlstack.export.worker.construction import load_network
from mlstack.export.worker.graph import Packed
from mlstack.records import base, run


def packed(request: ConvertRequest) -> Packed:
    """Build the run's module again, with its probabilities beside the logits."""
    spec = base.read(Path(request.build.run_folder) / run.SPEC, run.RunSpec)
    network = load_network(request.build, spec, Config.model_validate(spec.config))
    return Packed(network).eval()


def row(request: ConvertRequest) -> Tensor:
    """Give one real input, (1, ...)."""
    return torch.from_numpy(np.array(opened(request.built.val.inputs)[:1]))


def exported(module: Packed, example: Tensor) -> ExportedProgram:
    """Trace a module for one row a call: what runs on a small device has no batches to fill."""
    return torch.export.export(module, (example,))
