"""`python -m mlstack.export.worker.to_litert REQUEST`: the module as models of LiteRT.

Made from torch, not from ONNX, for one row a call: with a batch of any size the converter refuses
to divide by a number. This process saves a program, and the Python of the converter's own
environment makes the files of it: FP32, and static INT8 where such a graph is packed, calibrated
with the same examples and with the same share of its first layers in FP32.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch._dynamo.exc import TorchDynamoException

from mlstack.export.handover import Converted, ConvertRequest, Said
from mlstack.export.kinds import AFTER
from mlstack.export.worker import elsewhere, program
from mlstack.export.worker.channel import answer
from mlstack.export.worker.session import first_line
from mlstack.records.worker import WorkerProgress

REFUSALS = (TorchDynamoException, RuntimeError, NotImplementedError)


def convert(request: ConvertRequest) -> Iterator[Said]:
    """Write `PRECISION.tflite` for each graph."""
    yield WorkerProgress(text="converting to LiteRT", done=0, total=1)
    saved = Path(request.folder) / "program.pt2"
    try:
        traced = program.exported(program.packed(request), program.row(request))
        torch.export.save(traced, saved)
    except REFUSALS as error:
        problem = first_line(error)
    else:
        problem = elsewhere.convert(request.python, _job(request, saved), request.limit_s)
    for precision in request.graphs:
        made = Path(request.folder) / f"{precision}.tflite"
        if made.is_file():
            yield Converted(precision=precision, files=[made.name])
        else:
            yield Converted(precision=precision, files=[], problem=problem)


def _job(request: ConvertRequest, saved: Path) -> elsewhere.Job:
    return elsewhere.Job(
        program=str(saved),
        folder=request.folder,
        input=request.built.input.name,
        outputs=[output.name for output in request.built.outputs],
        precisions={precision: _percent(precision) for precision in request.graphs},
        calibration=request.built.calibration,
    )


def _percent(precision: str) -> int | None:
    """Read from a kind how much of its weights stay in FP32; None for all."""
    return int(precision.partition(AFTER)[2] or 0) if precision != "fp32" else None


if __name__ == "__main__":
    answer(ConvertRequest, convert)
