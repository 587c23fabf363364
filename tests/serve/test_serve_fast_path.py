"""What comes together is answered together, and exactly as it would have been by itself."""

import asyncio
import gc
import json
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
import tabular
from hypothesis import given
from hypothesis import strategies as st
from serving import Server, end, start
from test_serve_log import table_of

from mlstack.records.package import Signature, Tensor
from mlstack.records.server import AccessSpec, LogSpec
from mlstack.serve.worker import decode, plain
from mlstack.serve.worker.access import Access
from mlstack.serve.worker.answers import Refused
from mlstack.serve.worker.batcher import Batcher, Plan
from mlstack.serve.worker.columns import Encoder, Entry, Together
from mlstack.serve.worker.engine import Engine
from mlstack.serve.worker.fast_path import Books, FastPath
from mlstack.serve.worker.log import RequestLog
from mlstack.serve.worker.metrics import Metrics
from mlstack.serve.worker.model import Model
from mlstack.serve.worker.request import Request
from mlstack.serve.worker.said import AccessLog
from mlstack.serve.worker.traffic import Deployed

WIDTH = 3
CLASSES = ["small", "large"]
OPEN = Access(AccessSpec())  # lets everybody in
HEADERS = {b"host": b"x", b"content-type": b"application/json"}


def model_of(spec: Any = None, width: int = WIDTH) -> Model:
    signature = Signature(
        task="t",
        inputs=[Tensor(name="x", datatype="FP32", shape=[-1, width])],
        outputs=[Tensor(name="probabilities", datatype="FP32", shape=[-1, 2])],
        classes=CLASSES,
    )
    return Model("m", 7, signature, cast("Engine", None), spec)


NUMBERS = model_of()
TABLE = model_of(tabular.SPEC, tabular.SPEC.width)

value = st.one_of(
    st.integers(-300, 300),
    st.integers(),
    st.floats(allow_nan=False),
    st.sampled_from([2**53, 2**53 + 1, 2**63, 10**30, 1e39, True, None, "1", [], {"a": 1}]),
)
plain_value = st.one_of(st.floats(-1e6, 1e6), st.integers(-300, 300))
row = st.one_of(
    st.lists(plain_value, min_size=WIDTH, max_size=WIDTH),
    st.lists(value, max_size=WIDTH + 1),
    st.lists(st.lists(plain_value, min_size=WIDTH, max_size=WIDTH), max_size=2),
)
cell = st.one_of(plain_value, value, st.sampled_from(["01", "2", "", "true", "old"]))
columns = st.sampled_from(["age", "zip", "member", "rows", "inputs", "more"])
table_row = st.one_of(
    st.fixed_dictionaries({"age": plain_value, "zip": st.sampled_from(["1", "2", None])}).flatmap(
        lambda found: st.booleans().map(lambda yes: {**found, "member": yes})
    ),
    st.dictionaries(columns, cell, max_size=5),
)


def compare(model: Model, reader: plain.Reader | None, body: bytes) -> bool:
    """Read a body both ways; tell whether the fast one took it."""
    assert reader is not None
    read = reader.read(body)
    rows = reader.rows([read]) if read is not None else None
    if rows is None:
        return False
    asked = decode.parse(body, b"application/json", model)  # refuses nothing that was taken
    assert asked.is_single
    assert rows.inputs.dtype == asked.arrays[0].dtype
    np.testing.assert_array_equal(rows.inputs, asked.arrays[0])
    if asked.described is not None:
        assert rows.columns is not None
        found = np.array(list(rows.columns.values())).T
        np.testing.assert_array_equal(found, asked.described)
        assert rows.contents == asked.contents
    return True


@given(row, st.sampled_from(["inputs", "input"]))
def test_a_row_of_numbers_is_read_as_on_the_usual_way_or_not_at_all(given: Any, name: str) -> None:
    compare(NUMBERS, plain.reader_of(NUMBERS, LogSpec()), json.dumps({name: given}).encode())


@given(table_row)
def test_a_row_of_a_table_is_read_as_on_the_usual_way_or_not_at_all(given: Any) -> None:
    compare(TABLE, plain.reader_of(TABLE, LogSpec()), json.dumps(given).encode())


@given(st.binary(max_size=40))
def test_bytes_of_any_kind_are_left_to_the_usual_way(body: bytes) -> None:
    for model in (NUMBERS, TABLE):
        reader = plain.reader_of(model, LogSpec())
        assert reader is not None
        if reader.read(body) is None:
            continue
        compare(model, reader, body)


def test_plain_rows_are_taken() -> None:
    numbers, table = plain.reader_of(NUMBERS, LogSpec()), plain.reader_of(TABLE, LogSpec())

    assert compare(NUMBERS, numbers, b'{"inputs": [1, -2.5, 3e4]}')
    assert compare(TABLE, table, b'{"age": 31, "zip": "1", "member": true, "more": [1]}')
    assert not compare(NUMBERS, numbers, b'{"inputs": [1, 2, 1e39]}')
    assert not compare(TABLE, table, b'{"age": "old", "zip": "1", "member": true}')


def test_a_column_that_the_log_must_not_hold_is_not_in_the_rows_for_it() -> None:
    reader = plain.reader_of(TABLE, LogSpec(redact=["zip"]))
    assert reader is not None

    rows = reader.rows([reader.read(b'{"age": 31, "zip": "1", "member": true}')])

    assert rows is not None
    assert rows.contents is None


def test_other_models_have_no_plain_rows() -> None:
    no_classes = model_of()
    no_classes.signature = Signature(
        task="t", inputs=NUMBERS.signature.inputs, outputs=NUMBERS.signature.outputs, classes=[]
    )

    no_probabilities = model_of()
    no_probabilities.signature.outputs[0] = Tensor(name="y", datatype="FP32", shape=[-1, 2])

    assert plain.reader_of(no_classes, LogSpec()) is None
    assert plain.reader_of(no_probabilities, LogSpec()) is None
    assert plain.reader_of(model_of(width=-1), LogSpec()) is None


@dataclass
class Client:
    """One connection, as the fast path sees it."""

    is_gone: bool = False
    is_ready: bool = True
    answers: list[tuple[bytes, bytes]] = field(default_factory=list)
    started: list[Request] = field(default_factory=list)

    def reply(self, head: bytes, body: bytes) -> None:
        self.answers.append((head, body))

    def start(self, request: Request) -> None:
        self.started.append(request)

    def said(self) -> dict[str, Any]:
        (_, body), *others = self.answers
        assert not others
        assert not self.started
        found: dict[str, Any] = json.loads(body)
        return found


class Kept:
    """A log that keeps entries."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)


def books(metrics: Metrics, kept: Kept) -> Books:
    return Books(metrics, cast("RequestLog", kept), AccessLog(is_on=False))


def run(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Say `large` of rows that start with more than 1."""
    large = (arrays[0][:, :1] > 1).astype(np.float32) * np.float32(0.5) + np.float32(0.25)
    return [np.concatenate([1 - large, large], axis=1)]


def together(
    bodies: list[bytes],
    *,
    clients: list[Client] | None = None,
    call: Callable[[list[np.ndarray]], list[np.ndarray]] = run,
    plan: Plan | None = None,
    prepare: Callable[[Batcher], object] = lambda batcher: None,
    log: Any = None,
) -> tuple[list[Client], Metrics, Kept]:
    """Send bodies in one turn of a loop, a client each."""
    metrics, kept = Metrics("m"), log or Kept()
    clients = clients or [Client() for _ in bodies]

    async def main() -> None:
        limits = plan or Plan(max_rows=64, max_queue=100, inline_rows=64)
        batcher = Batcher(call, limits, metrics.note_call)
        path = FastPath(lambda: Deployed(NUMBERS, batcher), OPEN, books(metrics, kept), LogSpec())
        for client, body in zip(clients, bodies, strict=True):
            assert path.takes(HEADERS, len(body))
            path.add(client, HEADERS, body)
        prepare(batcher)
        for _ in range(5):
            await asyncio.sleep(0)

    asyncio.run(main())
    return clients, metrics, kept


def body_of(first: float) -> bytes:
    return json.dumps({"inputs": [first, 0, 0]}).encode()


def test_everyone_gets_the_answer_to_his_own_row_and_an_id_of_his_own() -> None:
    clients, metrics, kept = together([body_of(n) for n in range(4)])

    said = [client.said() for client in clients]
    assert [one["prediction"] for one in said] == ["small", "small", "large", "large"]
    assert said[2]["probabilities"] == {"small": 0.25, "large": 0.75}
    ids = [one["prediction_id"] for one in said]
    assert len({*ids}) == 4
    for client, name in zip(clients, ids, strict=True):
        assert f"x-prediction-id: {name}\r\n".encode() in client.answers[0][0]
    (entry,) = kept.entries
    assert entry.together is not None
    assert entry.together.ids == ids
    assert entry.together.batches == [4] * 4
    assert entry.count == 4
    assert metrics.requests[7, "predict", 200] == 4
    assert metrics.predictions == {(7, "small"): 2, (7, "large"): 2}
    assert sum(metrics.durations["predict"].counts) == sum(metrics.waits.counts) == 4
    assert sum(metrics.batches.counts) == 1


def test_what_is_not_plain_goes_the_usual_way_and_keeps_nobody_else_from_his_answer() -> None:
    wrong = [b'{"inputs": [1, 2]}', b"{", b'{"inputs": "x"}']
    clients, metrics, _ = together([body_of(0), *wrong, body_of(2)])

    assert [clients[n].said()["prediction"] for n in (0, 4)] == ["small", "large"]
    for client, body in zip(clients[1:4], wrong, strict=True):
        (request,) = client.started
        assert request.content == body
        assert request.path == "/predict"
        assert request.keeps_alive
    assert metrics.requests[7, "predict", 200] == 2


def test_a_value_out_of_range_keeps_nobody_else_from_his_answer() -> None:
    clients, metrics, _ = together([body_of(0), body_of(1e39), body_of(2), body_of(1e300)])

    assert [clients[n].said()["prediction"] for n in (0, 2)] == ["small", "large"]
    assert [len(clients[n].started) for n in (1, 3)] == [1, 1]
    assert sum(metrics.batches.counts) == 1


class Odd(Client):
    """A client that meets a mistake of ours."""

    @property
    def is_ready(self) -> bool:  # type: ignore[override]
        raise RuntimeError("a mistake of ours")

    @is_ready.setter
    def is_ready(self, value: bool) -> None:
        """Forget it."""


def test_a_mistake_of_ours_leaves_nobody_waiting() -> None:
    clients, _, _ = together([body_of(0), body_of(2)], clients=[Client(), Odd()])

    assert [len(client.started) for client in clients] == [1, 1]


def test_a_row_is_kept_in_the_hour_that_its_id_names_or_behind_it() -> None:
    metrics, kept = Metrics("m"), Kept()

    async def main() -> None:
        batcher = Batcher(run, Plan(max_rows=64, max_queue=100, inline_rows=64), metrics.note_call)
        deployed = Deployed(NUMBERS, batcher)
        path = FastPath(lambda: deployed, OPEN, books(metrics, kept), LogSpec())
        for _ in range(5000):  # a millisecond ends between the two in some
            path.add(Client(), HEADERS, body_of(0))
            await asyncio.sleep(0)

    asyncio.run(main())

    for entry in kept.entries:
        own = entry.together
        assert own is not None
        begun_us = int(own.ids[0][:8] + own.ids[0][9:13], 16) * 1000
        assert begun_us <= own.moments_us[0]
    assert len(kept.entries) == 5000


def test_a_row_is_of_the_time_before_its_call() -> None:
    called_us: list[int] = []

    def call(arrays: list[np.ndarray]) -> list[np.ndarray]:
        called_us.append(time.time_ns() // 1000)
        time.sleep(0.001)
        return run(arrays)

    _, _, kept = together([body_of(0), body_of(2)], call=call)

    (entry,) = kept.entries
    assert entry.together is not None
    assert max(entry.together.moments_us) <= called_us[0]


def test_a_model_that_answers_no_more_is_not_kept() -> None:
    async def main() -> object:
        def load() -> list[Deployed]:
            batcher = Batcher(run, Plan(max_rows=64, max_queue=100, inline_rows=64), print)
            return [Deployed(model_of(), batcher)]

        live = load()
        path = FastPath(lambda: live[0], OPEN, books(Metrics("m"), Kept()), LogSpec())
        client = Client()
        path.add(client, HEADERS, body_of(0))
        await asyncio.sleep(0)
        assert client.answers
        old = weakref.ref(live.pop().model)
        gc.collect()
        return old()

    assert asyncio.run(main()) is None


def test_who_has_gone_meanwhile_costs_no_call() -> None:
    clients = [Client(is_ready=False), Client()]
    together([body_of(0), body_of(2)], clients=clients)

    assert len(clients[0].started) == 1
    assert clients[1].said()["prediction"] == "large"


def broken(arrays: list[np.ndarray]) -> list[np.ndarray]:
    raise ValueError("the graph cannot")


def short(arrays: list[np.ndarray]) -> list[np.ndarray]:
    return [output[:1] for output in run(arrays)]


class Full(Kept):
    """A log with a mistake in it."""

    def add(self, entry: Entry) -> None:
        raise RuntimeError("a mistake of ours")


def queue(batcher: Batcher) -> None:
    """Let a row of somebody else wait."""
    batcher.submit([np.zeros((1, WIDTH), np.float32)], 1, lambda: False)


@pytest.mark.parametrize(
    "given",
    [
        {"call": broken},
        {"call": short},
        {"log": Full()},
        {"prepare": queue},
        {"plan": Plan(max_rows=64, max_queue=100, inline_rows=0)},
        {"plan": Plan(max_rows=64, max_queue=100, inline_rows=64, delay_s=1)},
        {"plan": Plan(max_rows=64, max_queue=100, inline_rows=64, deadline_s=1e-9)},
    ],
)
def test_where_a_call_cannot_be_made_at_once_all_go_the_usual_way(given: dict[str, Any]) -> None:
    clients, metrics, _ = together([body_of(0), body_of(2)], **given)

    for client in clients:
        assert not client.answers
        assert len(client.started) == 1
    assert not metrics.requests


def test_more_than_a_call_takes_are_answered_in_several() -> None:
    plan = Plan(max_rows=64, max_queue=100, inline_rows=3)
    clients, metrics, kept = together([body_of(n) for n in range(7)], plan=plan)

    assert [client.said()["prediction"] for client in clients] == ["small"] * 2 + ["large"] * 5
    assert [entry.count for entry in kept.entries] == [3, 3, 1]
    assert sum(metrics.batches.counts) == 3


def test_headers_that_mean_something_are_looked_at_by_themselves() -> None:
    path = FastPath(lambda: None, OPEN, books(Metrics("m"), Kept()), LogSpec())

    assert path.takes(HEADERS | {b"user-agent": b"curl", b"connection": b"keep-alive"}, 10)
    for name in (b"origin", b"cookie", b"x-timeout-ms", b"x-session-id", b"traceparent"):
        assert not path.takes(HEADERS | {name: b"1"}, 10)
    assert not path.takes(HEADERS | {b"content-encoding": b"gzip"}, 10)
    assert not path.takes(HEADERS | {b"content-type": b"image/png"}, 10)
    assert not path.takes({b"host": b"x"}, 10)
    assert not path.takes(HEADERS, 1 << 20)


def test_the_log_holds_of_each_what_it_would_hold_of_one_alone() -> None:
    _, _, kept = together([body_of(n) for n in range(3)])
    (entry,) = kept.entries
    own = entry.together
    assert own is not None
    assert own.inputs is not None
    alone = [
        Entry(
            own.ids[i],
            "",
            own.moments_us[i],
            7,
            "predict",
            200,
            latency_us=own.latencies_us[i],
            batch=3,
            probabilities=own.stacks[0][i : i + 1],
            classes=CLASSES,
            inputs=[own.inputs[i]],
        )
        for i in range(3)
    ]
    encoder = Encoder("m", [], inputs=True, redact=[])
    few = Entry.of(own.only([2]), 7, "predict", CLASSES)

    assert table_of(encoder, [entry]).equals(table_of(encoder, alone))
    assert table_of(encoder, [few]).equals(table_of(encoder, alone[2:]))
    assert entry.takes(few)
    assert table_of(encoder, [entry]).equals(table_of(encoder, [*alone, alone[2]]))
    assert table_of(encoder, [alone[1], entry]).equals(
        table_of(encoder, [alone[1], *alone, alone[2]])
    )


def test_of_another_model_or_a_redacted_row_nothing_is_taken_in() -> None:
    def one(version: int, *, has_inputs: bool) -> Entry:
        stack = np.full((1, 2), 0.5, np.float32)
        own = Together(["a"], [1], [1], [1], [b"x"] if has_inputs else None, [stack], [])
        return Entry.of(own, version, "predict", CLASSES)

    assert one(1, has_inputs=True).takes(one(1, has_inputs=True))
    assert not one(1, has_inputs=True).takes(one(2, has_inputs=True))
    assert not one(1, has_inputs=True).takes(one(1, has_inputs=False))
    assert not one(1, has_inputs=True).takes(Entry("a", "", 1, 1, "predict", 200))


def test_the_columns_of_tables_stand_in_the_rows_that_they_belong_to() -> None:
    def turn(ages: list[float]) -> Entry:
        count = len(ages)
        stacks = [np.full((count, 2), 0.5, np.float32)]
        columns = [{"age": np.array(ages, np.float32)}]
        ids = [str(age) for age in ages]
        own = Together(ids, [1] * count, [1] * count, [count] * count, None, stacks, columns)
        return Entry.of(own, 7, "predict", CLASSES)

    first = turn([1, 2])
    assert first.takes(turn([3]))
    entries = [first, Entry("", "", 1, 7, "infer", 400), turn([4])]

    table = table_of(Encoder("m", ["age"], inputs=True, redact=[]), entries)

    assert table["f_age"].to_pylist() == [1, 2, 3, None, 4]
    assert table["batch"].to_pylist() == [2, 2, 1, 0, 1]


def test_of_what_comes_together_the_log_keeps_the_share_that_it_is_told_to(tmp_path: Path) -> None:
    async def main() -> int:
        log = RequestLog(tmp_path, "m", LogSpec(sample=0.25))
        log.start([])
        stack = np.full((1000, 2), 0.5, np.float32)
        numbers = [1] * 1000
        own = Together([str(n) for n in range(1000)], numbers, numbers, numbers, None, [stack], [])
        log.add(Entry.of(own, 7, "predict", CLASSES))
        await asyncio.sleep(0.2)
        written = log.written_rows
        log.close()
        return written

    assert 150 < asyncio.run(main()) < 350


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("shop")
    tabular.make(root)
    running = start(root)
    yield running
    end(running)


async def _ask_all(url: str, bodies: list[bytes], header: str) -> list[dict[str, Any]]:
    """Send each on a connection of its own, all at once; give the answers in order."""
    host, port = url.removeprefix("http://").split(":")
    opened = [await asyncio.open_connection(host, int(port)) for _ in bodies]
    for (_, writer), body in zip(opened, bodies, strict=True):
        head = (
            f"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{header}"
            f"content-length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
    found = []
    for reader, writer in opened:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        size = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        said = json.loads(await reader.readexactly(size))
        names = [line.partition(":")[0] for line in head.splitlines()[1:]]
        found.append({"status": head.split()[1], "headers": names, **said})
        writer.close()
    return found


def test_a_server_answers_the_same_together_and_one_by_one(shop: Server) -> None:
    rows: list[dict[str, Any]] = [
        {"age": n, "zip": ["1", "2", "01", "9", None][n % 5], "member": n % 3 == 0}
        for n in range(60)
    ]
    rows[7]["age"] = "old"
    del rows[20]["zip"]
    bodies = [json.dumps(one).encode() for one in rows]
    before = shop.metrics()

    fast = asyncio.run(_ask_all(shop.url, bodies, ""))
    between = shop.metrics()
    slow = asyncio.run(_ask_all(shop.url, bodies, "x-session-id: 1\r\n"))

    assert [one["status"] for one in fast].count("400") == 2
    ids = [one.pop("prediction_id", "") for one in fast]
    for one in slow:
        one.pop("prediction_id", "")
    assert fast == slow
    calls = "mlstack_batch_size_count"
    key = next(name for name in before if name.startswith(calls))
    assert between[key] - before[key] < 50  # some have come together
    logged = _logged(shop)
    for name, body, one in zip(ids, bodies, fast, strict=True):
        if name:
            assert json.loads(logged[name]["input"]) == json.loads(body)
            assert logged[name]["prediction"] == one["prediction"]


def _logged(server: Server) -> dict[str, dict[str, Any]]:
    """Stop a server and read its log, by id."""
    assert server.stop() == 0
    parts = (server.project / ".mlstack" / "requests").rglob("*.parquet")
    rows = [row for part in parts for row in pq.ParquetFile(part).read().to_pylist()]
    return {row["prediction_id"]: row for row in rows}


def test_a_server_with_keys_asks_everyone_for_his(tmp_path: Path) -> None:
    tabular.make(tmp_path)
    key = "mls_" + "k" * 43
    environment = {"MLSTACK_SERVE_KEYS": key}
    running = start(tmp_path, "--host", "0.0.0.0", environment=environment)
    url = running.url.replace("0.0.0.0", "127.0.0.1") + "/predict"
    try:
        row = {"age": 1, "zip": "1", "member": True}
        assert httpx.post(url, json=row).status_code == 401
        headers = {"authorization": f"Bearer {key}"}
        assert httpx.post(url, json=row, headers=headers).status_code == 200
    finally:
        end(running)


def test_refused_is_what_the_usual_way_refuses() -> None:
    with pytest.raises(Refused):
        decode.parse(b'{"inputs": [1, 2, 1e39]}', b"application/json", NUMBERS)
