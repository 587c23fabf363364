"""`python -m mlstack.export.worker.to_openvino REQUEST`: ONNX graphs as OpenVINO's own files.

The graphs are those that were measured: OpenVINO reads the quantised ones, too, and keeps their
INT8 weights.
"""

from collections.abc import Iterator
from pathlib import Path

from mlstack.export.handover import Converted, ConvertRequest, Said
from mlstack.export.worker import silent
from mlstack.export.worker.channel import answer
from mlstack.export.worker.session import first_line, limit
from mlstack.records.worker import WorkerProgress

openvino = silent.openvino()


def convert(request: ConvertRequest) -> Iterator[Said]:
    """Write `PRECISION.xml` and `PRECISION.bin` for each graph."""
    graphs = {precision: Path(graph) for precision, graph in request.graphs.items()}
    limit(max(graphs.values(), key=lambda path: path.stat().st_size), request.limit_s)
    for done, (precision, graph) in enumerate(graphs.items()):
        yield WorkerProgress(text="converting to OpenVINO", done=done, total=len(graphs))
        target = Path(request.folder) / f"{precision}.xml"
        yield Converted(
            precision=precision,
            files=[target.name, target.with_suffix(".bin").name],
            problem=_write(graph, target),
        )


def _write(graph: Path, target: Path) -> str:
    """Convert one graph; give what hindered it."""
    try:
        model = openvino.Core().read_model(str(graph))
        # Weights in FP16, the default, would halve the file and change the answers.
        openvino.save_model(model, str(target), compress_to_fp16=False)
    except RuntimeError as error:
        return first_line(error)
    return ""


if __name__ == "__main__":
    answer(ConvertRequest, convert)
