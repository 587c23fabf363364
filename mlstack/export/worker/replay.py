"""`python -m mlstack.export.worker.replay REQUEST`: answer a package's golden examples again."""

from collections.abc import Iterator
from pathlib import Path

from mlstack.export.handover import Replayed, ReplayRequest, Said
from mlstack.export.worker import golden
from mlstack.export.worker.channel import answer
from mlstack.export.worker.session import Session, limit
from mlstack.inputs import preprocess
from mlstack.records import base
from mlstack.records.package import SIDE, Golden, Signature


def replay(request: ReplayRequest) -> Iterator[Said]:
    """Load the graph under limits and compare its answers with the expected ones."""
    package = Path(request.package)
    model = package / request.model
    limit(model, request.limit_s)
    signature = base.read(package / SIDE / "signature.json", Signature)
    expected = request.golden or base.read(package / SIDE / "golden.json", Golden)
    given = signature.preprocess
    worst, differing = golden.replay(
        Session(model),
        expected,
        package / SIDE / "golden",
        preprocess.from_json(given) if given is not None else None,
        signature.classes,
    )
    yield Replayed(examples=len(expected.examples), max_diff=worst, differing=differing)


if __name__ == "__main__":
    answer(ReplayRequest, replay)
