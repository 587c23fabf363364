"""`python -m mlstack.export.worker.to_litert REQUEST`: the module as a model of LiteRT.

Made from torch, not from ONNX, for one row a call: with a batch of any size the converter refuses
to divide by a number. This process saves a program, and the Python of the converter's own
environment makes the file of it.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch._dynamo.exc import TorchDynamoException

from mlstack.export.handover import Converted, ConvertRequest, Said
from mlstack.export.worker import elsewhere, program
from mlstack.export.worker.channel import answer
from mlstack.export.worker.session import first_line
from mlstack.records.worker import WorkerProgress

REFUSALS = (TorchDynamoException, RuntimeError, NotImplementedError)


def convert(request: ConvertRequest) -> Iterator[Said]:
    """Write `fp32.tflite`."""
    yield WorkerProgress(text="converting to LiteRT", done=0, total=1)
    job = elsewhere.Job(
        program=Path(request.folder) / "fp32.pt2",
        target=Path(request.folder) / "fp32.tflite",
        input=request.built.input.name,
        outputs=[output.name for output in request.built.outputs],
    )
    try:
        traced = program.exported(program.packed(request), program.row(request))
        torch.export.save(traced, job.program)
    except REFUSALS as error:
        problem = first_line(error)
    else:
        problem = elsewhere.convert(request.python, job, request.limit_s)
        job.program.unlink()
    yield Converted(precision="fp32", files=[] if problem else [job.target.name], problem=problem)


if __name__ == "__main__":
    answer(ConvertRequest, convert)
