"""Calls bound to memory that is kept; here on the CPU, where the same calls of ONNX Runtime run."""

import asyncio
import ctypes
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from serving import make_free_graph, make_graph

from mlstack.records.server import BatchingSpec
from mlstack.serve.worker import buffers, cuda, engine, runner
from mlstack.serve.worker.batcher import Batcher
from mlstack.serve.worker.runner import Runner
from mlstack.serve.worker.tensors import DTYPES

TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
}
NUMBERS = np.random.default_rng(0)


def write_graph(path: Path, nodes: list, inputs: dict, outputs: dict) -> Path:
    """Write a graph; inputs and outputs are name -> (type, shape)."""
    described = [
        [helper.make_tensor_value_info(name, *info) for name, info in side.items()]
        for side in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, "graph", *described)
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


def copying(folder: Path, kind: int) -> Path:
    """Write a graph whose answer is its input."""
    side = (kind, ["n", 3])
    nodes = [helper.make_node("Identity", ["given"], ["same"])]
    return write_graph(folder / "copy.onnx", nodes, {"given": side}, {"same": side})


def images(count: int) -> list[np.ndarray]:
    return [NUMBERS.integers(0, 255, (count, 16, 16, 1)).astype(np.uint8)]


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    make_graph(tmp_path / "model.onnx", 1)
    return tmp_path / "model.onnx"


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Runner, "on_gpu", property(lambda self: True))


@pytest.fixture
def never_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound call is measured faster each time: what is asked here is whether it is right."""
    seconds = iter(np.linspace(1e-3, 1e-4, 1000))
    monkeypatch.setattr(engine, "_fastest", lambda call: (call(), float(next(seconds)))[1])


@pytest.mark.parametrize("datatype", list(TYPES))
def test_a_bound_call_answers_as_the_session_does(tmp_path: Path, datatype: str) -> None:
    found = Runner(copying(tmp_path, TYPES[datatype]), "cpu")
    rows = NUMBERS.integers(0, 2, (4, 3)).astype(DTYPES[datatype])
    expected = found.run([rows])

    assert found.bind(4)
    answer = found.run([rows])

    assert answer[0].dtype == expected[0].dtype == DTYPES[datatype]
    np.testing.assert_array_equal(answer[0], expected[0])


def test_several_inputs_and_outputs_are_bound_each_by_its_name(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Sub", ["a", "b"], ["difference"]),
        helper.make_node("Add", ["a", "b"], ["sum"]),
    ]
    side = (TensorProto.FLOAT, ["n", 3])
    made = write_graph(
        tmp_path / "two.onnx", nodes, {"a": side, "b": side}, {"sum": side, "difference": side}
    )
    found = Runner(made, "cpu")
    a, b = (NUMBERS.normal(size=(2, 3)).astype(np.float32) for _ in range(2))

    assert found.bind(2)

    np.testing.assert_array_equal(found.run([a, b]), [a + b, a - b])


def test_answers_are_no_views_that_the_next_call_overwrites(digits: Path) -> None:
    found = Runner(digits, "cpu")
    first, second = images(2), images(2)
    expected = [array.copy() for array in found.run(first)]

    assert found.bind(2)
    kept = found.run(first)
    found.run(second)

    for answer, truth in zip(kept, expected, strict=True):
        np.testing.assert_array_equal(answer, truth)


def test_calls_from_several_threads_take_turns_at_the_same_buffers(digits: Path) -> None:
    found = Runner(digits, "cpu")
    asked = [images(2) for _ in range(200)]
    expected = [found.run(some)[0].copy() for some in asked]

    assert found.bind(2)
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda some: found.run(some)[0], asked))

    np.testing.assert_array_equal(answers, expected)


@pytest.mark.parametrize(
    "wrong", [np.zeros((2, 16, 16, 1), np.int8), np.zeros((2, 8, 16, 1), np.uint8)]
)
def test_what_the_graph_does_not_take_is_refused_by_it_as_ever(
    digits: Path, wrong: np.ndarray
) -> None:
    found = Runner(digits, "cpu")

    assert found.bind(2)

    with pytest.raises(Exception, match=r"Unexpected input data type|Got invalid dimensions"):
        found.run([wrong])


def test_read_only_and_strided_arrays_are_taken_too(digits: Path) -> None:
    found = Runner(digits, "cpu")
    every = images(4)[0]
    expected = found.run([every[::2]])[0].copy()

    assert found.bind(2)
    sent = np.frombuffer(every[::2].tobytes(), np.uint8).reshape(2, 16, 16, 1)

    np.testing.assert_array_equal(found.run([sent])[0], expected)
    np.testing.assert_array_equal(found.run([every[::2]])[0], expected)


def test_free_sizes_and_texts_are_not_bound(tmp_path: Path) -> None:
    make_free_graph(tmp_path / "free.onnx")
    side, kinds = ["n", 3], (TensorProto.STRING, TensorProto.FLOAT)
    nodes = [helper.make_node("Identity", ["given"], ["same"])]
    ends = write_graph(
        tmp_path / "grows.onnx",
        [helper.make_node("NonZero", ["given"], ["found"])],
        {"given": (kinds[1], side)},
        {"found": (TensorProto.INT64, [2, "k"])},
    )
    texts = write_graph(
        tmp_path / "texts.onnx", nodes, {"given": (kinds[0], side)}, {"same": (kinds[0], side)}
    )

    assert [Runner(one, "cpu").bind(2) for one in (tmp_path / "free.onnx", ends, texts)] == [
        False,
        False,
        False,
    ]


def test_on_the_cpu_nothing_is_bound(digits: Path) -> None:
    found = engine.open_engine(digits, "cpu", BatchingSpec(max_size=4))

    assert found.runner.bound_rows == []
    assert found.buffers is None


def test_on_a_gpu_each_size_that_is_run_is_bound(
    digits: Path, on_gpu: None, never_slower: None
) -> None:
    batching = BatchingSpec(max_size=6, adaptive=False)
    found = engine.open_engine(digits, "auto", batching)

    assert found.plan.buckets == (1, 2, 4, 6)
    assert found.runner.bound_rows == [1, 2, 4, 6]


def test_sizes_that_are_not_run_keep_no_buffers(
    digits: Path, on_gpu: None, monkeypatch: pytest.MonkeyPatch, never_slower: None
) -> None:
    monkeypatch.setattr(engine, "_best_size", lambda timings: 2)
    found = engine.open_engine(digits, "auto", BatchingSpec(max_size=8))

    assert found.runner.bound_rows == [1, 2]


def test_a_bound_call_that_is_slower_is_not_used(
    digits: Path, on_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter(np.linspace(1e-4, 1e-3, 1000))
    monkeypatch.setattr(engine, "_fastest", lambda call: (call(), float(next(seconds)))[1])
    found = engine.open_engine(digits, "auto", BatchingSpec(max_size=4))

    assert found.runner.bound_rows == []


@pytest.mark.parametrize("kind", ["copies nothing", "mixes the rows up", "fails"])
def test_a_bound_call_that_is_wrong_is_not_used(
    digits: Path, on_gpu: None, never_slower: None, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    class Wrong(runner.Bound):
        def run(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
            if kind == "fails":
                raise RuntimeError("no memory left on the device\nat a place")
            other = arrays[0][::-1] if kind == "mixes the rows up" else np.zeros_like(arrays[0])
            return super().run([other])

    monkeypatch.setattr(runner, "Bound", Wrong)
    found = engine.open_engine(digits, "auto", BatchingSpec(max_size=4, adaptive=False))

    assert found.runner.bound_rows == ([1] if kind == "mixes the rows up" else [])


def test_a_graph_that_cannot_answer_the_trial_is_served_without_buffers(
    tmp_path: Path, on_gpu: None, never_slower: None, caplog: pytest.LogCaptureFixture
) -> None:
    reads = helper.make_node("Gather", ["table", "codes"], ["found"])
    table = helper.make_tensor("table", TensorProto.FLOAT, [1, 2], [0.0, 0.5])
    side = {"codes": (TensorProto.INT64, ["n"])}
    graph = write_graph(
        tmp_path / "one.onnx",
        [helper.make_node("Constant", [], ["table"], value=table), reads],
        side,
        {"found": (TensorProto.FLOAT, ["n", 2])},
    )

    found = engine.open_engine(graph, "auto", BatchingSpec(max_size=2))

    assert found.runner.bound_rows == []
    assert "no buffers are kept for calls of 1 rows" in caplog.text
    assert found.runner.run([np.zeros(2, np.int64)])[0].shape == (2, 2)


def test_requests_that_share_a_padded_batch_get_their_own_answers(
    digits: Path, on_gpu: None, never_slower: None
) -> None:
    found = engine.open_engine(digits, "auto", BatchingSpec(max_size=8, adaptive=False))
    plain = Runner(digits, "cpu")
    asked = [images(count) for count in (1, 2, 2, 3, 1, 4, 3, 8, 5, 1)] * 3
    used: list[int] = []

    def run(arrays: list[np.ndarray]) -> list[np.ndarray]:
        used.append(len(arrays[0]))
        return found.run(arrays)

    async def ask() -> list[list[np.ndarray]]:
        batcher = Batcher(run, found.plan, lambda *_: None, None, found.buffers)
        jobs = [batcher.submit(some, len(some[0]), lambda: False) for some in asked]
        return await asyncio.gather(*(job.done for job in jobs))

    answers = asyncio.run(ask())

    assert set(used) <= {1, 2, 4, 8}
    assert len(found.buffers._free) == 1  # one call at a time: one set, and it came back
    for some, answer in zip(asked, answers, strict=True):
        np.testing.assert_allclose(answer[0], plain.run(some)[0], rtol=1e-5, atol=1e-6)


def test_a_batch_larger_than_any_that_was_timed_has_room_in_the_buffers(
    digits: Path, on_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_fastest", lambda call: (call(), 1.0)[1])  # too slow for more
    found = engine.open_engine(digits, "auto", BatchingSpec(max_size=8, adaptive=False))
    asked = [images(3), images(4)]

    async def ask() -> list[list[np.ndarray]]:
        batcher = Batcher(found.run, found.plan, lambda *_: None, None, found.buffers)
        jobs = [batcher.submit(some, len(some[0]), lambda: False) for some in asked]
        return await asyncio.wait_for(asyncio.gather(*(job.done for job in jobs)), 20)

    answers = asyncio.run(ask())

    assert found.plan.buckets == (1,)
    assert [len(answer[0]) for answer in answers] == [3, 4]


def test_what_fills_a_batch_up_is_zeros_and_not_what_was_there_before(
    digits: Path, on_gpu: None, never_slower: None
) -> None:
    found = engine.open_engine(digits, "auto", BatchingSpec(max_size=4, adaptive=False))
    called: list[np.ndarray] = []

    def run(arrays: list[np.ndarray]) -> list[np.ndarray]:
        called.append(arrays[0].copy())
        return found.run(arrays)

    async def ask() -> None:
        batcher = Batcher(run, found.plan, lambda *_: None, None, found.buffers)
        for counts in ((2, 2), (1, 2)):
            white = [[np.full((count, 16, 16, 1), 9, np.uint8)] for count in counts]
            jobs = [batcher.submit(some, len(some[0]), lambda: False) for some in white]
            await asyncio.gather(*(job.done for job in jobs))

    asyncio.run(ask())

    assert [array[:, 0, 0, 0].tolist() for array in called] == [[9, 9, 9, 9], [9, 9, 9, 0]]


def test_buffers_of_a_call_that_failed_come_back(
    digits: Path, on_gpu: None, never_slower: None
) -> None:
    found = engine.open_engine(digits, "auto", BatchingSpec(max_size=4, adaptive=False))

    def run(arrays: list[np.ndarray]) -> list[np.ndarray]:
        raise RuntimeError("the GPU is lost")

    async def ask() -> list:
        batcher = Batcher(run, found.plan, lambda *_: None, None, found.buffers)
        jobs = [batcher.submit(images(1), 1, lambda: False) for _ in range(3)]
        return await asyncio.gather(*(job.done for job in jobs), return_exceptions=True)

    failed = asyncio.run(ask())

    assert [str(one) for one in failed] == ["the GPU is lost"] * 3
    assert len(found.buffers._free) == 1


def test_answers_of_a_call_that_is_not_bound_are_no_views_of_what_was_gathered(
    tmp_path: Path, on_gpu: None
) -> None:
    side = (TensorProto.FLOAT, ["n", 3])
    nodes = [helper.make_node("Identity", ["given"], ["same"])]
    graph = write_graph(
        tmp_path / "through.onnx", nodes, {"given": side}, {"same": side, "given": side}
    )
    found = engine.open_engine(graph, "auto", BatchingSpec(max_size=4, adaptive=False))
    for rows in found.plan.buckets:
        found.runner.unbind(rows)

    async def ask() -> list[list[np.ndarray]]:
        batcher = Batcher(found.run, found.plan, lambda *_: None, None, found.buffers)
        answers = []
        for first in (0, 2, 4):
            both = [np.full((1, 3), first + one, np.float32) for one in (0, 1)]
            jobs = [batcher.submit([one], 1, lambda: False) for one in both]
            answers += await asyncio.gather(*(job.done for job in jobs))
        return answers

    answers = asyncio.run(ask())

    assert [[int(one[0, 0]) for one in answer] for answer in answers] == [
        [number, number] for number in range(6)
    ]


@pytest.mark.parametrize(
    ("providers", "expected"),
    [
        (["CUDAExecutionProvider", "CPUExecutionProvider"], ("cuda", 1)),
        (["TensorrtExecutionProvider", "CUDAExecutionProvider"], ("cuda", 1)),
        (["CPUExecutionProvider"], ("cpu", 0)),
    ],
)
def test_buffers_lie_on_the_gpu_of_their_session(
    providers: list[str], expected: tuple[str, int]
) -> None:
    class Session:
        def get_providers(self) -> list[str]:
            return providers

        def get_provider_options(self) -> dict[str, dict[str, str]]:
            return {name: {"device_id": "1"} for name in providers}

    assert buffers.place(Session()) == expected


class Cudart:
    """The CUDA runtime's two functions, on the heap of libc; counts what is not freed."""

    def __init__(self, *, is_full: bool = False) -> None:
        self.libc = ctypes.CDLL(None)
        self.libc.malloc.restype = ctypes.c_void_p
        self.held: set[int] = set()
        self._is_full = is_full
        self._turn = threading.Lock()

    def cudaHostAlloc(self, place, size_bytes, flags) -> int:
        if self._is_full:
            return 2
        place._obj.value = self.libc.malloc(size_bytes)
        ctypes.memset(place._obj, 255, size_bytes.value)
        with self._turn:
            self.held.add(place._obj.value)
        return 0

    def cudaFreeHost(self, place) -> int:
        with self._turn:
            self.held.remove(place.value)
        self.libc.free(place)
        return 0


def test_page_locked_memory_is_freed_with_its_last_view_and_not_before() -> None:
    library = Cudart()
    array = cuda.page_locked([4, 3], np.dtype(np.float32), library)
    part = array[1:2]
    array[:] = 7
    del array
    gc.collect()

    assert len(library.held) == 1
    np.testing.assert_array_equal(part, [[7, 7, 7]])
    del part
    gc.collect()
    assert not library.held


@pytest.mark.parametrize("library", [None, Cudart(is_full=True), cuda.runtime()])
def test_where_no_memory_can_be_locked_it_is_an_ordinary_array(library: object) -> None:
    array = cuda.page_locked([2, 3], np.dtype(np.int64), library)

    np.testing.assert_array_equal(array, np.zeros((2, 3)))
    array[:] = 1
    assert array.sum() == 6


@pytest.mark.parametrize(
    ("rates", "best"),
    [
        ({8: 1216, 16: 1335, 32: 1399}, 32),
        ({8: 1000, 16: 1040, 32: 1081}, 32),  # small steps add up
        ({8: 1000, 16: 1380, 32: 1400}, 16),
        ({1: 50, 2: 49}, 1),
    ],
)
def test_the_smallest_batch_with_nearly_the_best_throughput_is_taken(
    rates: dict[int, int], best: int
) -> None:
    assert engine._best_size({rows: rows / rate for rows, rate in rates.items()}) == best
