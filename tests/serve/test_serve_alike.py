"""What a client, the logs and the counters see is the same on the fast path and beside it."""

import asyncio
import base64
import contextlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_serve_fast_path import NUMBERS, Kept, body_of, row, run
from test_serve_log import table_of

from mlstack import files
from mlstack.records import keys as record
from mlstack.records.base import encode
from mlstack.records.keys import Key, Keys
from mlstack.records.server import AccessSpec, ServerSpec
from mlstack.serve.worker.app import App
from mlstack.serve.worker.batcher import Batcher, Plan
from mlstack.serve.worker.columns import Encoder
from mlstack.serve.worker.connection import Connection, Open
from mlstack.serve.worker.traffic import Deployed, Traffic

KEYS = {"alice": "mls_" + "a" * 64, "bob": "mls_" + "b" * 64}
OWN = "c" * 64
TIMES = ("ts_us", "latency_us", "batch")
BESIDE = b"x-nothing: 1\r\n"  # means nothing, and is not plain


@dataclass
class Wire:
    """A connection's other side."""

    connection: Connection
    said: bytearray = field(default_factory=bytearray)
    is_closed: bool = False

    def write(self, data: bytes) -> None:
        self.said += data

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        """Give what comes all the same."""

    def resume_reading(self) -> None:
        """Give what comes."""

    def answers(self) -> list[Any]:
        """Take the answers apart, without what is each time another."""
        rest, found = bytes(self.said), []
        while rest:
            head, _, rest = rest.partition(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            size = int(headers["content-length"])
            body, rest = json.loads(rest[:size]), rest[size:]
            assert headers.pop("date")
            if "x-prediction-id" in headers:
                name = headers.pop("x-prediction-id")
                assert name == headers["x-request-id"]
                for one in body.get("predictions", [body]):
                    assert one.pop("prediction_id").startswith(name)
            assert len(headers.pop("x-request-id")) == 36
            found.append((first, headers, body))
        return found


@dataclass
class Seen:
    """Everything that can be seen of some requests."""

    answers: list[Any]
    logged: list[dict[str, Any]]
    lines: list[dict[str, Any]]
    counted: dict[str, Any]
    together: int  # of the requests, how many have gone the fast way


def app_of(access: AccessSpec, kept: Kept, *, writes_lines: bool = False) -> App:
    """Make an application with a model; in a running loop."""
    spec = ServerSpec(
        root="", model="m", host="", port=0, url="", pid=0, started="",
        access=access, access_log=writes_lines,
    )  # fmt: skip
    app = App(spec, cast("Any", kept), cast("Any", None))
    plan = Plan(max_rows=64, max_queue=100, inline_rows=64)
    app.traffic = Traffic(Deployed(NUMBERS, Batcher(run, plan, app.metrics.note_call)), name="m")
    return app


async def send(app: App, sent: list[list[bytes]]) -> list[Wire]:
    """Send requests in one turn of the loop, those of each list on a connection of its own."""
    wires = [Wire(Connection(app, Open())) for _ in sent]
    for wire, requests in zip(wires, sent, strict=True):
        wire.connection.connection_made(cast("Any", wire))
        wire.connection.data_received(b"".join(requests))
    for _ in range(100):
        await asyncio.sleep(0)
    return wires


def ask(access: AccessSpec, sent: list[list[bytes]], *, writes_lines: bool = False) -> Seen:
    """Send requests; give everything that can be seen of them."""
    kept, stderr = Kept(), io.StringIO()

    async def main() -> tuple[App, list[Wire]]:
        app = app_of(access, kept, writes_lines=writes_lines)
        wires = await send(app, sent)
        app.access_log.close()
        return app, wires

    with contextlib.redirect_stderr(stderr):
        app, wires = asyncio.run(main())
    metrics = app.metrics
    counted = {
        "requests": dict(metrics.requests),
        "predictions": dict(metrics.predictions),
        "rejected": dict(metrics.rejected),
        "durations": {name: sum(one.counts) for name, one in metrics.durations.items()},
        "waits": sum(metrics.waits.counts),
        "rows": metrics.batches.total,
        "lost": app.access_log.lost,
    }
    return Seen(
        [wire.answers() for wire in wires],
        _logged(kept),
        _lines(stderr.getvalue()),
        counted,
        sum(entry.count for entry in kept.entries if entry.together is not None),
    )


def _logged(kept: Kept) -> list[dict[str, Any]]:
    if not kept.entries:
        return []
    rows = table_of(Encoder("m", [], inputs=True, redact=[]), kept.entries).to_pylist()
    for one in rows:
        one["prediction_id"] = len(one["prediction_id"])
        for name in TIMES:
            del one[name]
    return sorted(rows, key=str)


def _lines(text: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in text.splitlines()]
    for line in found:
        assert line.pop("ts").endswith("Z")
        assert line.pop("ms") >= 0
        name = line.pop("request_id")
        line["names"] = line.pop("prediction_id", None) == name
    return sorted(found, key=str)


def post(body: bytes, headers: bytes = b"") -> bytes:
    return (
        b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"%bcontent-length: %d\r\n\r\n%b" % (headers, len(body), body)
    )


def bearer(key: str) -> bytes:
    return b"authorization: Bearer %b\r\n" % key.encode()


def basic(key: str) -> bytes:
    return b"authorization: Basic %b\r\n" % base64.b64encode(f"me:{key}".encode())


def write_keys(path: Path, names: list[str]) -> None:
    found = [
        Key(id=key[:12], name=name, sha256=record.digest(key), created="", revoked=revoked)
        for name, key in KEYS.items()
        for revoked in ["" if name in names else "2026-01-01T00:00:00+00:00"]
    ]
    files.write_bytes(path, encode(Keys(keys=found)), mode=0o600)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AccessSpec]:
    place = tmp_path_factory.mktemp("keys") / "keys.json"
    write_keys(place, ["alice"])
    return AccessSpec(keys_file=str(place), asks_for_keys=True, own_key=OWN)


good = st.sampled_from([*KEYS.values(), OWN])
credentials = st.one_of(
    st.builds(bearer, good),
    st.builds(basic, good),
    st.builds(lambda key: b"x-api-key: %b\r\n" % key.encode(), good),
    st.builds(lambda key: b"authorization: Basic !\r\nx-api-key: %b\r\n" % key.encode(), good),
    st.builds(lambda one, two: bearer(one) + bearer(two), good, good),
    st.text(st.characters(min_codepoint=33, max_codepoint=126)).map(bearer),
    st.sampled_from([b"", b"authorization: Bearer \xff\r\n", b"authorization: Basic\r\n"]),
)
bodies = st.one_of(
    st.floats(-9, 9).map(body_of),
    row.map(lambda one: json.dumps({"inputs": one}).encode()),
    st.sampled_from([b"", b"{", b"\xff"]),
)
asked = st.lists(
    st.lists(st.tuples(bodies, credentials), min_size=1, max_size=2), min_size=1, max_size=6
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(asked, st.booleans(), st.booleans())
def test_together_and_beside_each_other_the_same_is_seen(
    guarded: AccessSpec,
    sent: list[list[tuple[bytes, bytes]]],
    asks_for_keys: bool,
    writes_lines: bool,
) -> None:
    access = guarded if asks_for_keys else AccessSpec()
    beside = [[(body, keys + BESIDE) for body, keys in some] for some in sent]

    fast, slow = [
        ask(access, [[post(*one) for one in some] for some in all_of], writes_lines=writes_lines)
        for all_of in (sent, beside)
    ]

    assert fast.answers == slow.answers
    assert fast.logged == slow.logged
    assert fast.lines == slow.lines
    assert len(fast.lines) == (sum(map(len, sent)) if writes_lines else 0)
    assert fast.counted == slow.counted
    assert slow.together == 0


@pytest.mark.parametrize(
    "headers", [bearer(KEYS["alice"]), basic(OWN), b"x-api-key: %b\r\n" % KEYS["alice"].encode()]
)
def test_a_good_key_goes_the_fast_way_and_no_other_does(
    guarded: AccessSpec, headers: bytes
) -> None:
    others = [b"", bearer(KEYS["bob"]), bearer("none")]
    seen = ask(guarded, [[post(body_of(2), one)] for one in (headers, *others, headers)])

    codes = [answer[0].split()[1] for (answer,) in seen.answers]
    assert codes == ["200", "401", "401", "401", "200"]
    assert seen.together == len(seen.logged) == 2
    assert seen.counted["rejected"] == {"401": 3}


def test_a_line_of_the_fast_path_names_the_answer_and_the_key(guarded: AccessSpec) -> None:
    headers = bearer(KEYS["alice"])
    seen = ask(guarded, [[post(body_of(2), headers)] for _ in range(3)], writes_lines=True)

    ((_, answer, _),), *_ = seen.answers
    assert seen.together == 3
    assert seen.lines == 3 * [
        {
            "level": "info",
            "event": "request",
            "model": "m",
            "version": 7,
            "route": "predict",
            "method": "POST",
            "status": 200,
            "bytes": int(answer["content-length"]),
            "key": KEYS["alice"][:12],
            "names": True,
        }
    ]


def test_a_key_that_is_withdrawn_is_refused_on_the_fast_path_and_a_new_one_taken(
    tmp_path: Path,
) -> None:
    place = tmp_path / "keys.json"
    write_keys(place, ["alice"])
    spec = AccessSpec(keys_file=str(place), asks_for_keys=True, own_key=OWN)
    kept = Kept()

    async def codes(app: App) -> list[str]:
        wires = await send(app, [[post(body_of(2), bearer(key))] for key in KEYS.values()])
        return [answer[0].split()[1] for wire in wires for answer in wire.answers()]

    async def main() -> list[list[str]]:
        app = app_of(spec, kept)
        before = await codes(app)
        watching = asyncio.create_task(app.access.watch())
        await asyncio.sleep(0)
        write_keys(place, ["bob"])
        for _ in range(100):
            await asyncio.sleep(0.05)
            if (after := await codes(app)) != before:
                break
        watching.cancel()
        return [before, after]

    assert asyncio.run(main()) == [["200", "401"], ["401", "200"]]
    assert all(entry.together is not None for entry in kept.entries)
