"""`python -m mlstack.export.worker.to_executorch REQUEST`: the module as a program of ExecuTorch.

Made from torch, not from ONNX, for one row a call; what XNNPACK knows is computed by it.
"""

from collections.abc import Iterator
from pathlib import Path

from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from executorch.exir.error import ExportError, InternalError
from torch._dynamo.exc import TorchDynamoException

from mlstack import files
from mlstack.export.handover import Converted, ConvertRequest, Said
from mlstack.export.worker import program
from mlstack.export.worker.channel import answer
from mlstack.export.worker.session import first_line
from mlstack.records.worker import WorkerProgress

REFUSALS = (ExportError, InternalError, TorchDynamoException, RuntimeError, NotImplementedError)


def convert(request: ConvertRequest) -> Iterator[Said]:
    """Write `fp32.pte`."""
    yield WorkerProgress(text="converting to ExecuTorch", done=0, total=1)
    target = Path(request.folder) / "fp32.pte"
    module, example = program.packed(request), program.row(request)
    try:
        lowered = to_edge_transform_and_lower(
            program.exported(module, example), partitioner=[XnnpackPartitioner()]
        )
        files.write_bytes(target, lowered.to_executorch().buffer)
    except REFUSALS as error:
        yield Converted(precision="fp32", files=[], problem=first_line(error))
        return
    yield Converted(precision="fp32", files=[target.name])


if __name__ == "__main__":
    answer(ConvertRequest, convert)
