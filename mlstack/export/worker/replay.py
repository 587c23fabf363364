"""`python -m mlstack.export.worker.replay REQUEST`: answer a package's golden examples again."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mlstack.export.handover import Replayed, ReplayRequest, Said
from mlstack.export.worker import golden
from mlstack.export.worker.channel import answer
from mlstack.export.worker.raw import load_input
from mlstack.export.worker.session import Session, limit
from mlstack.inputs import preprocess
from mlstack.launch import limits
from mlstack.records import base, trusted
from mlstack.records.package import MODEL, SIDE, Golden, Signature


def replay(request: ReplayRequest) -> Iterator[Said]:
    """Load the graph under limits and compare its answers with the expected ones.

    `model.onnx` is also asked as a server asks it when it opens it.
    """
    package = Path(request.package)
    model = package / request.model
    limit(model, request.limit_s)
    signature = base.read(package / SIDE / "signature.json", Signature)
    expected = request.golden or base.read(package / SIDE / "golden.json", Golden)
    given = signature.preprocess
    spec = preprocess.from_json(given) if given is not None else None
    if spec is not None:
        trusted.check_input(package, signature, preprocess.datatype(spec), preprocess.shape(spec))
    session = Session(model)
    if session.tensors is not None:
        trusted.check_tensors(package, signature, *session.tensors)
    folder = package / SIDE / "golden"
    worst, differing = golden.replay(session, expected, folder, spec, signature.classes)
    if request.model == MODEL:
        row = np.zeros_like(load_input(folder / expected.examples[0].file, spec))
        limits.call_growing(lambda rows: session.answer(np.stack([row] * rows)))
    yield Replayed(examples=len(expected.examples), max_diff=worst, differing=differing)


if __name__ == "__main__":
    answer(ReplayRequest, replay)
