"""Several GPUs behind one queue; here each is a session on the CPU that says it is on a GPU."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import EPFail
from serving import make_graph

from mlstack.errors import MachineError
from mlstack.records.server import BatchingSpec
from mlstack.serve.worker import cuda, engine, runner
from mlstack.serve.worker.mending import Mending

IMAGES = [np.full((1, 16, 16, 1), 3, np.uint8)]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Three GPUs; the list says which were opened."""
    numbers: list[int] = []

    def open_on_cpu(model: Path, device: str, threads: int, gpu: int, tensorrt: None) -> object:
        numbers.append(gpu)
        return runner._session(model, [runner.CPU], 1)

    monkeypatch.setattr(runner, "_open", open_on_cpu)
    monkeypatch.setattr(runner.Runner, "on_gpu", property(lambda self: True))
    monkeypatch.setattr(cuda, "count_gpus", lambda: 3)
    return numbers


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    make_graph(tmp_path / "model.onnx", 1)
    return tmp_path / "model.onnx"


def at_once(call: Callable[[list], list], count: int) -> list:
    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(call, [IMAGES] * count))


def test_each_gpu_answers_calls_at_the_same_time(
    graph: Path, opened: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = engine.open_engine(graph, "gpu", BatchingSpec(max_size=4), gpus=engine.Gpus(3))
    expected = found.runner.run(IMAGES)
    used: list[int] = []
    meeting = threading.Barrier(3)
    run = runner.Runner.run

    def meet(self: runner.Runner, arrays: list) -> list:
        used.append(id(self))
        meeting.wait(20)
        return run(self, arrays)

    monkeypatch.setattr(runner.Runner, "run", meet)
    answers = at_once(found.run, 3)

    assert opened == [0, 1, 2]
    assert found.plan.runners == 3
    assert len(set(used)) == 3
    for answer in answers:
        np.testing.assert_array_equal(answer[0], expected[0])


def test_a_gpu_whose_call_fails_is_asked_again_and_the_others_are_not_lost(
    graph: Path, opened: list[int]
) -> None:
    found = engine.open_engine(graph, "gpu", BatchingSpec(max_size=4), gpus=engine.Gpus(3))
    wrong = [np.zeros((1, 8, 8, 1), np.uint8)]

    for _ in range(4):
        with pytest.raises(Exception, match=r"shape|dimension"):
            found.run_alone(wrong)

    assert len(at_once(found.run, 3)) == 3


def test_one_broken_gpu_of_several_has_the_engine_opened_anew(
    graph: Path, opened: list[int]
) -> None:
    def reopen() -> engine.Engine:
        return engine.open_engine(graph, "gpu", BatchingSpec(max_size=4), gpus=engine.Gpus(3))

    calls = Mending(reopen(), reopen)
    calls.engine.runner._session = None
    calls.engine.runner._bound.clear()

    codes = []
    for _ in range(3):
        try:
            calls.run(IMAGES)
        except Exception as error:
            codes.append(error.status)

    assert codes == [503]
    assert opened == [0, 1, 2] * 2


def test_more_gpus_than_there_are_is_an_error_that_counts_them(
    graph: Path, opened: list[int]
) -> None:
    with pytest.raises(MachineError, match=r"4 GPUs were asked for .* 3 are visible"):
        engine.open_engine(graph, "gpu", BatchingSpec(), gpus=engine.Gpus(4))


def test_without_a_gpu_the_setting_changes_nothing(graph: Path) -> None:
    found = engine.open_engine(graph, "cpu", BatchingSpec(max_size=4), gpus=engine.Gpus(3))

    assert found.pool is None
    assert cuda.count_gpus() >= 0


def test_a_gpu_that_is_lost_is_an_error_and_no_quiet_change_to_the_cpu(
    graph: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Lost:
        def __getattr__(self, name: str) -> object:
            return getattr(session, name)

        def run(self, *_: object) -> list:
            raise EPFail("CUDA failure 999: unknown error")

    monkeypatch.setattr(cuda, "loads", lambda library: True)
    found = runner.Runner(graph, "auto")
    session = found._session._sess
    found._session._sess = Lost()

    with pytest.raises(EPFail):
        found.run(IMAGES)
    assert capsys.readouterr().out == ""
