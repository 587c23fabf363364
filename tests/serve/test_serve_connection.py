"""HTTP on raw sockets: split anywhere, pipelined, chunked, slow, broken, cut in the middle."""

import asyncio
import contextlib
import hashlib
import itertools
import json
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlstack.records.server import AccessSpec, LogSpec
from mlstack.serve.worker import connection
from mlstack.serve.worker.access import Access
from mlstack.serve.worker.answers import Answer, json_answer
from mlstack.serve.worker.connection import Connection, Open, end_late
from mlstack.serve.worker.fast_path import Books, FastPath
from mlstack.serve.worker.log import RequestLog
from mlstack.serve.worker.metrics import Metrics
from mlstack.serve.worker.request import Request
from mlstack.serve.worker.said import AccessLog

LIMIT = 100_000


def no_fast_path() -> FastPath:
    """Make one that lets everything go the usual way."""
    books = Books(Metrics("m"), cast("RequestLog", None), AccessLog(is_on=False))
    return FastPath(lambda: None, Access(AccessSpec()), books, LogSpec())


class Echo:
    """An application that says what it was asked."""

    def __init__(self) -> None:
        self.max_body_bytes = LIMIT
        self.is_stopping = False
        self.fast_path = no_fast_path()
        self.gone = 0
        self.gate: asyncio.Event | None = None
        self.is_asked = threading.Event()

    async def answer(self, request: Request) -> Answer:
        if request.refused is not None:
            return request.refused.answer()
        if request.path == "/wait":
            self.is_asked.set()
            assert self.gate is not None
            await self.gate.wait()
            self.gone += request.is_gone()
        if request.path == "/large":
            return Answer(200, b"x" * 20_000_000)
        digest = hashlib.sha256(await request.body(LIMIT)).hexdigest()
        said = {"method": request.method, "path": request.path, "body": digest}
        return json_answer(said)


@dataclass
class Lines:
    """A server in a thread of its own."""

    app: Echo
    port: int = 0
    loop: asyncio.AbstractEventLoop | None = None
    open: Open = field(default_factory=Open)
    broken: list[dict[str, object]] = field(default_factory=list)

    def end_late(self, seconds: float) -> None:
        """Let that much time pass for the connections."""
        assert self.loop is not None
        done = threading.Event()

        def sweep() -> None:
            end_late(self.open.connections, self.loop.time() + seconds)
            done.set()

        self.loop.call_soon_threadsafe(sweep)
        assert done.wait(5)

    def open_gate(self) -> None:
        self.loop.call_soon_threadsafe(self.app.gate.set)

    def count(self) -> int:
        return len(self.open.connections)


@pytest.fixture(scope="module")
def lines() -> Iterator[Lines]:
    lines = Lines(Echo())
    is_up, over = threading.Event(), threading.Event()

    async def main() -> None:
        lines.loop = asyncio.get_running_loop()
        lines.loop.set_exception_handler(lambda _, context: lines.broken.append(context))
        lines.app.gate = asyncio.Event()
        server = await lines.loop.create_server(
            lambda: Connection(lines.app, lines.open), "127.0.0.1", 0
        )
        lines.port = server.sockets[0].getsockname()[1]
        is_up.set()
        await lines.loop.run_in_executor(None, over.wait)
        server.close()

    thread = threading.Thread(target=uvloop.run, args=(main(),))
    thread.start()
    assert is_up.wait(10)
    yield lines
    over.set()
    thread.join(10)
    assert lines.broken == []


@contextlib.contextmanager
def connected(lines: Lines) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", lines.port), timeout=10) as opened:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield opened


def read_all(opened: socket.socket) -> bytes:
    pieces = []
    with contextlib.suppress(ConnectionResetError):
        while piece := opened.recv(1 << 16):
            pieces.append(piece)
    return b"".join(pieces)


def answers(said: bytes) -> list[tuple[int, bytes]]:
    """Part what a server said into codes and bodies; everything must be an answer."""
    found = []
    while said:
        if said.startswith(b"HTTP/1.1 100 Continue\r\n\r\n"):
            said = said[25:]
            continue
        head, separator, rest = said.partition(b"\r\n\r\n")
        assert separator and head.startswith(b"HTTP/1.1 "), said[:200]
        size = int(re.search(rb"content-length: (\d+)", head).group(1))
        assert b"date: " in head
        found.append((int(head[9:12]), rest[:size]))
        assert len(rest) >= size
        said = rest[size:]
    return found


def asked(path: str, body: bytes, *, chunks: int = 0, closes: bool = False) -> bytes:
    """Write a POST, in chunks if wanted."""
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\n" + "connection: close\r\n" * closes
    if not chunks:
        return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
    pieces = [body[i : i + chunks] for i in range(0, len(body), chunks)]
    inner = b"".join(b"%x;a=b\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return f"{head}transfer-encoding: chunked\r\n\r\n".encode() + inner + b"0\r\nx-late: 1\r\n\r\n"


def told(path: str, body: bytes) -> dict[str, str]:
    return {"method": "POST", "path": path, "body": hashlib.sha256(body).hexdigest()}


PIECES = [
    *(b"POST / HTTP/1.1\r\n", b"content-length: 5\r\n", b"content-length: 6\r\n", b"\0"),
    *(b"transfer-encoding: chunked\r\n", b"\r\n", b"hello", b"5\r\nhello\r\n", b"\r"),
    *(b"upgrade: h2c\r\nconnection: upgrade\r\n", b": x\r\n", b" folded\r\n"),
    *(b"GET http://a:b/ HTTP/1.1\r\n", b"CONNECT a:1 HTTP/1.1\r\n", b"expect: y\r\n"),
]
quick = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
request = st.tuples(st.binary(max_size=300), st.sampled_from([0, 1, 7, 100]))


@quick
@given(sent=st.lists(request, min_size=1, max_size=8), cuts=st.lists(st.integers(0, 3000)))
def test_requests_cut_anywhere_are_answered_in_order(
    lines: Lines, sent: list[tuple[bytes, int]], cuts: list[int]
) -> None:
    last = len(sent) - 1
    stream = b"".join(
        asked(f"/{i}", body, chunks=chunks, closes=i == last)
        for i, (body, chunks) in enumerate(sent)
    )
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})

    with connected(lines) as opened:
        for start, stop in itertools.pairwise(places):
            opened.sendall(stream[start:stop])
        said = answers(read_all(opened))

    assert [code for code, _ in said] == [200] * len(sent)
    for index, ((_, got), (body, _)) in enumerate(zip(said, sent, strict=True)):
        assert json.loads(got) == told(f"/{index}", body)


@quick
@given(
    garbage=st.one_of(
        st.binary(min_size=1, max_size=400),
        st.from_regex(rb"(GET|POST|OPTIONS) [^ ]{0,30} HTTP/[0-9]\.[0-9]\r\n", fullmatch=True),
        st.lists(
            st.sampled_from(PIECES),
            max_size=12,
        ).map(b"".join),
    ),
    is_behind=st.booleans(),
)
def test_garbage_is_refused_behind_what_was_good(
    lines: Lines, garbage: bytes, is_behind: bool
) -> None:
    good = asked("/good", b"1") if is_behind else b""

    with connected(lines) as opened:
        opened.sendall(good + garbage)
        opened.shutdown(socket.SHUT_WR)
        said = answers(read_all(opened))

    assert all(code in (200, 400, 408, 414, 431) for code, _ in said), said
    assert lines.broken == []


def ask(lines: Lines, stream: bytes) -> list[tuple[int, bytes]]:
    with connected(lines) as opened:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):  # it need not read it all
            opened.sendall(stream)
        return answers(read_all(opened))


def test_a_thousand_pipelined_requests_are_answered_in_order(lines: Lines) -> None:
    stream = b"".join(asked(f"/{i}", b"%d" % i, closes=i == 999) for i in range(1000))

    said = ask(lines, stream)

    assert [json.loads(body)["path"] for _, body in said] == [f"/{i}" for i in range(1000)]


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000, 431),
        (b"GET / HTTP/1.1\r\na: " + b"b" * 70_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\na: " + b"b" * 500_000, 431),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\na: " + b"b" * 900_000, 413),
        (b"POST / HTTP/1.1\r\ncontent-length: 100001\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", 400),
        (b"POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n20000\r\n" + b"a" * 0x20000, 413),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/3.7\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # TLS
    ],
)
def test_what_is_too_much_or_wrong_is_refused_and_ends_the_connection(
    lines: Lines, stream: bytes, code: int
) -> None:
    said = ask(lines, stream)

    assert [got for got, _ in said] == [code]
    assert json.loads(said[0][1])["error"]


def test_a_body_in_tiny_chunks_takes_little_more_than_its_bytes(lines: Lines) -> None:
    body = bytes(range(256)) * 200
    pieces = [body[start : start + 2] for start in range(0, len(body), 2)]
    head = b"POST /tiny HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    with connected(lines) as opened:
        opened.sendall(head + b"".join(b"2\r\n" + piece + b"\r\n" for piece in pieces))
        wait_until(lambda: any(c._size == len(body) for c in list(lines.open.connections)))
        (held,) = [c._pieces for c in list(lines.open.connections) if c._size]
        count = len(held)
        opened.sendall(b"0\r\n\r\n")
        answered = opened.recv(1 << 16)

    assert count < connection.MANY_PIECES
    assert hashlib.sha256(body).hexdigest().encode() in answered


def test_a_client_that_waits_for_100_continue_gets_it(lines: Lines) -> None:
    head = b"POST /a HTTP/1.1\r\nexpect: 100-continue\r\nconnection: close\r\ncontent-length: 2\r\n"

    with connected(lines) as opened:
        opened.sendall(head + b"\r\n")
        first = opened.recv(100)
        opened.sendall(b"ok")
        said = answers(read_all(opened))

    assert first == connection.CONTINUE
    assert json.loads(said[0][1]) == told("/a", b"ok")


def test_a_body_that_will_be_refused_is_not_asked_for(lines: Lines) -> None:
    head = b"POST /a HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 100001\r\n\r\n"

    assert [code for code, _ in ask(lines, head)] == [413]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"", None),
        (b"GET /a", 408),
        (b"GET /a HTTP/1.1\r\nhost:", 408),
        (b"POST /a HTTP/1.1\r\ncontent-length: 5\r\n\r\nab", 408),
    ],
)
def test_a_slow_client_is_ended_with_408(lines: Lines, sent: bytes, code: int | None) -> None:
    with connected(lines) as opened:
        opened.sendall(sent)
        wait_until(lambda: lines.count() == 1)
        if sent:
            wait_until(lambda: any(c._url for c in list(lines.open.connections)))
        lines.end_late(connection.IDLE_S + 1)
        said = answers(read_all(opened))

    assert [got for got, _ in said] == ([code] if code else [])


def wait_until(condition: object) -> None:
    for _ in range(1000):
        if condition():
            return
        threading.Event().wait(0.005)
    raise AssertionError("it did not become true")


def test_a_request_that_is_being_answered_is_not_late(lines: Lines) -> None:
    lines.app.is_asked.clear()
    lines.app.gate.clear()
    with connected(lines) as opened:
        opened.sendall(asked("/wait", b"", closes=True))
        assert lines.app.is_asked.wait(5)
        lines.end_late(1e6)
        lines.open_gate()
        said = answers(read_all(opened))

    assert [code for code, _ in said] == [200]


def test_a_client_that_takes_no_answer_is_let_go(lines: Lines) -> None:
    with connected(lines) as opened:
        opened.sendall(asked("/large", b"") * 3)
        wait_until(lambda: any(c._is_full for c in list(lines.open.connections)))
        lines.end_late(connection.READER_S + 1)
        wait_until(lambda: lines.count() == 0)


def test_a_client_that_has_gone_is_known_to_have_gone(lines: Lines) -> None:
    lines.app.is_asked.clear()
    lines.app.gate.clear()
    before = lines.app.gone
    with connected(lines) as opened:
        opened.sendall(asked("/wait", b""))
        assert lines.app.is_asked.wait(5)
    wait_until(lambda: lines.count() == 0)

    lines.open_gate()

    wait_until(lambda: lines.app.gone == before + 1)


def test_http_1_0_and_head_are_answered_as_they_ask(lines: Lines) -> None:
    plain = b"GET /a HTTP/1.0\r\n\r\n"
    kept = b"GET /a HTTP/1.0\r\nconnection: keep-alive\r\n\r\n"
    head = b"HEAD /a HTTP/1.1\r\nconnection: close\r\n\r\n"

    with connected(lines) as opened:
        opened.sendall(kept + plain)
        said = read_all(opened)
    with connected(lines) as opened:
        opened.sendall(head)
        headers = read_all(opened)

    assert len(answers(said)) == 2
    assert said.count(b"connection: keep-alive") == 1
    assert headers.endswith(b"\r\n\r\n")
    assert re.search(rb"content-length: [1-9]", headers)


@pytest.mark.parametrize(
    ("target", "path"),
    [("/a%20b?x=1", "/a b"), ("http://host/a?b", "/a"), ("http://host", "/"), ("/%zz", "/%zz")],
)
def test_targets_are_read_as_paths(lines: Lines, target: str, path: str) -> None:
    said = ask(lines, f"GET {target} HTTP/1.1\r\nconnection: close\r\n\r\n".encode())

    assert json.loads(said[0][1])["path"] == path


def test_an_upgrade_is_answered_as_plain_http_and_ends(lines: Lines) -> None:
    sent = b"GET /a HTTP/1.1\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\nPRI * HTTP/2.0\r\n\r\n"

    assert [code for code, _ in ask(lines, sent)] == [200]


def test_no_connection_is_left_behind(lines: Lines) -> None:
    wait_until(lambda: lines.count() == 0)
