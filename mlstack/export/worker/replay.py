"""`python -m mlstack.export.worker.replay REQUEST`: answer a package's golden examples again."""

from collections.abc import Iterator
from pathlib import Path

from mlstack.export.handover import Replayed, ReplayRequest, Said
from mlstack.export.worker import golden
from mlstack.export.worker.channel import answer
from mlstack.export.worker.session import Session, limit
from mlstack.inputs import preprocess
from mlstack.records import base, trusted
from mlstack.records.package import SIDE, Golden, Signature


def replay(request: ReplayRequest) -> Iterator[Said]:
    """Load the graph under limits and compare its answers with the expected ones."""
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
    yield Replayed(examples=len(expected.examples), max_diff=worst, differing=differing)


if __name__ == "__main__":
    answer(ReplayRequest, replay)
