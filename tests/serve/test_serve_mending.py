"""A session that breaks is opened anew; an input that breaks nothing is not."""

from pathlib import Path

import numpy as np
import pytest
from serving import Kind, make_graph

from mlstack.errors import DataError
from mlstack.records.server import BatchingSpec
from mlstack.serve.worker.answers import Refused
from mlstack.serve.worker.engine import Engine, open_engine
from mlstack.serve.worker.mending import Mending


class Opener:
    """Opens a real graph, and counts how often."""

    def __init__(self, graph: Path) -> None:
        self.graph = graph
        self.count = 0

    def __call__(self) -> Engine:
        self.count += 1
        return open_engine(self.graph, "cpu", BatchingSpec(max_size=2))


@pytest.fixture
def opener(tmp_path: Path) -> Opener:
    make_graph(tmp_path / "model.onnx", 1, Kind(fails_on_white=True))
    return Opener(tmp_path / "model.onnx")


def images(value: int) -> list[np.ndarray]:
    return [np.full((1, 16, 16, 1), value, np.uint8)]


def break_session(engine: Engine) -> None:
    """Take the session away: every call fails from now on, as with a GPU that was lost."""
    engine.runner._session = None
    if engine.side is not None:
        engine.side._session = None


@pytest.mark.parametrize("name", ["run", "run_alone"])
def test_a_broken_session_is_opened_anew_and_its_call_refused_with_503(
    opener: Opener, name: str
) -> None:
    calls = Mending(opener(), opener)
    truth = calls.run(images(3))
    break_session(calls.engine)

    with pytest.raises(Refused) as refused:
        getattr(calls, name)(images(3))
    after = calls.run(images(3))

    assert refused.value.status == 503
    assert (b"retry-after", b"1") in refused.value.headers
    assert opener.count == 2
    np.testing.assert_array_equal(after[0], truth[0])


def test_an_input_that_the_graph_cannot_answer_opens_nothing(opener: Opener) -> None:
    calls = Mending(opener(), opener)

    with pytest.raises(Exception, match="Gather"):
        calls.run(images(255))

    assert opener.count == 1
    assert len(calls.run(images(3))[0]) == 1


@pytest.mark.parametrize(("again_s", "tries"), [(60.0, 1), (0.0, 5)])
def test_what_does_not_open_is_tried_again_after_a_while_only(
    opener: Opener, again_s: float, tries: int
) -> None:
    tried: list[int] = []

    def fail() -> Engine:
        tried.append(1)
        raise DataError("the disk is gone")

    calls = Mending(opener(), fail, again_s)
    break_session(calls.engine)
    for _ in range(5):
        with pytest.raises(Refused):
            calls.run(images(3))

    assert len(tried) == tries
