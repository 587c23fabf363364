"""One HTTP/1.1 connection: bytes to requests, one answered after the other, answers to bytes.

What an ASGI server does for each request (a scope, an event, two messages each way) costs more here
than the model: see docs/architecture.md. llhttp, below httptools, does the parsing, and refuses
what could be read in two ways (two lengths, a length beside chunks, bare carriage returns).
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import Protocol
from urllib.parse import unquote

import httptools

from mlstack.serve.worker import fast_path
from mlstack.serve.worker.answers import Answer, Refused
from mlstack.serve.worker.fast_path import FastPath
from mlstack.serve.worker.request import MAX_HEADER_BYTES, Request, too_large

IDLE_S = 75.0  # between two requests
HEADERS_S = 15.0  # from the first byte to the end of the headers
BODY_S = 30.0  # from there to the end of the body
READER_S = 30.0  # for a client that does not take its answer
FOREVER = float("inf")
MANY_PIECES = 256  # of a body, until they are joined
MAX_URL_BYTES = 8 << 10
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
START = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
START[499] = b"HTTP/1.1 499 Client Closed Request\r\n"


class Application(Protocol):
    """Who answers."""

    is_stopping: bool
    fast_path: FastPath

    @property
    def max_body_bytes(self) -> int:
        """Tell how large a body may be."""

    async def answer(self, request: Request) -> Answer:
        """Answer one request, whatever happens."""


@dataclass
class Open:
    """The connections that are open, and what is still at a request of one that is not."""

    connections: "set[Connection]" = field(default_factory=set)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class Clock:
    """The `Date` of answers, made once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._line = b""

    def line(self) -> bytes:
        """Give the whole header."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._line = f"date: {formatdate(second, usegmt=True)}\r\n".encode()
        return self._line


class Connection(asyncio.Protocol):
    """One connection; it is in `Open` as long as it lasts."""

    clock = Clock()

    def __init__(self, app: Application, others: Open) -> None:
        self._app = app
        self._open = others
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self.transport: asyncio.Transport
        self.is_gone = False
        self.deadline = FOREVER  # on the loop's clock, see `end_late`
        self._is_asked = False  # a request is being answered
        self._task: asyncio.Task[None] | None = None  # of this, unless it is on the fast path
        self._waiting: deque[Request] = deque()  # asked behind it (pipelining)
        self._is_last = False  # nothing more is read or answered behind what is here
        self._is_paused = False  # nothing is read until those are answered
        self._is_full = False  # the client does not take what was written
        self._begin()

    def _begin(self) -> None:
        """Forget the request before."""
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._header_bytes = 0
        self._has_headers = False
        self._keeps_alive = False
        self._pieces: list[bytes | bytearray] = []
        self._size = 0
        self._raw = 0

    # What the transport says

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        self.transport = transport
        self._open.connections.add(self)
        self.deadline = self._loop.time() + IDLE_S

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what was asked; rows that still wait for the model are not run."""
        self.is_gone = True
        self._is_last = True
        self._waiting.clear()
        self._open.connections.discard(self)
        if self._task is not None:
            self._outlive(self._task)

    def eof_received(self) -> bool | None:
        """Take the end of what a client sends for its end, as nginx does.

        A client that only closes its sending half cannot be told from one that has gone, and
        who has gone must cost no call of the model.
        """
        return None

    def pause_writing(self) -> None:
        """Answer nothing more until the client has taken what it asked for."""
        self._is_full = True
        self.deadline = self._loop.time() + READER_S

    def resume_writing(self) -> None:
        """Go on where `pause_writing` stopped."""
        self._is_full = False
        self.deadline = self._loop.time() + IDLE_S
        self._next()

    def data_received(self, data: bytes) -> None:
        """Parse; what cannot be parsed is answered behind what could."""
        if self._is_last:
            return
        begun = self._headers
        try:
            self._parser.feed_data(data)
            if self._headers is begun:  # the same request as before, and not at its end
                self._count(len(data))
        except httptools.HttpParserUpgrade:
            self._is_last = True  # the request itself was whole; nobody here speaks anything else
            if not (self._is_asked or self._waiting):
                self.transport.close()
        except Refused as refused:
            self._refuse(refused)
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            if not isinstance(cause, Refused):
                raise
            self._refuse(cause)
        except httptools.HttpParserError as error:
            self._refuse(Refused(400, f"this is not HTTP: {error}", field="request"))

    def _count(self, size: int) -> None:
        """Bound what llhttp and httptools hold on to: a header, or a chunk, that never ends.

        Raises:
            Refused: 431 or 413.
        """
        self._raw += size
        if not self._has_headers and self._raw > MAX_HEADER_BYTES:
            raise Refused(431, f"more than {MAX_HEADER_BYTES} bytes of headers", field="headers")
        if self._raw > 2 * self._app.max_body_bytes + MAX_HEADER_BYTES:
            raise too_large(self._app.max_body_bytes)

    # What the parser says

    def on_message_begin(self) -> None:
        """Start a request."""
        self._begin()
        if not self._is_asked:
            self.deadline = self._loop.time() + HEADERS_S

    def on_url(self, url: bytes) -> None:
        """Collect the target, which may come in pieces."""
        self._url += url
        if len(self._url) > MAX_URL_BYTES:
            raise Refused(414, f"longer than {MAX_URL_BYTES} bytes", field="path")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; the last of equal ones counts, trailers never."""
        self._header_bytes += len(name) + len(value) + 4
        if self._header_bytes > MAX_HEADER_BYTES:
            raise Refused(431, f"more than {MAX_HEADER_BYTES} bytes of headers", field="headers")
        if not self._has_headers:
            self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Refuse a body that is too large before it is sent."""
        self._has_headers = True
        self._keeps_alive = self._parser.should_keep_alive()
        length = self._headers.get(b"content-length")
        if length is not None and int(length) > self._app.max_body_bytes:
            raise too_large(self._app.max_body_bytes)
        if self._is_asked:
            return
        self.deadline = self._loop.time() + BODY_S
        if self._headers.get(b"expect", b"").lower() == b"100-continue":
            self.transport.write(CONTINUE)

    def on_body(self, body: bytes) -> None:
        """Collect the body."""
        self._size += len(body)
        if self._size > self._app.max_body_bytes:
            raise too_large(self._app.max_body_bytes)
        self._pieces.append(body)
        if len(self._pieces) == MANY_PIECES:  # of two bytes each they take twenty times as much
            first, *others = self._pieces
            whole = first if isinstance(first, bytearray) else bytearray(first)
            whole += b"".join(others)
            self._pieces = [whole]

    def on_message_complete(self) -> None:
        """Answer the request, or keep it until those before are answered."""
        pieces = self._pieces
        body = bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)
        if self._is_plain(len(body)):
            self._is_asked = True
            self.deadline = FOREVER
            self._app.fast_path.add(self, self._headers, body)
            self._url = b""
            self._headers = {}
            return
        request = Request(self._method(), self._path(), self._headers, body, self)
        request.keeps_alive = self._keeps_alive
        if not self._headers and self._parser.get_http_version() == "0.9":
            raise Refused(400, "this is not HTTP/1.1", field="request")
        if b"connection" in self._headers:
            request.is_old = self._parser.get_http_version() == "1.0"
        self._url = b""  # nothing has begun; `on_message_begin` clears the rest
        self._headers = {}
        self._add(request)

    # The way of a request

    def _is_plain(self, size: int) -> bool:
        """Tell whether what has been read may be answered together with others."""
        return (
            self._url == fast_path.PATH
            and not (self._is_asked or self._waiting or self._is_last or self._is_full)
            and self._keeps_alive
            and self._app.fast_path.takes(self._headers, size)
            and self._parser.get_method() == b"POST"
            and self._parser.get_http_version() == "1.1"
        )

    @property
    def is_ready(self) -> bool:
        """Tell whether an answer can be written, and another question follow it."""
        is_over = self.is_gone or self._is_last or self._is_full or self._app.is_stopping
        return not (is_over or self.transport.is_closing())

    def reply(self, head: bytes, body: bytes) -> None:
        """Answer 200 on the fast path, to who is ready; `head` are headers beside those of all."""
        self._is_asked = False
        self.transport.write(
            b"%b%bcontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n%b"
            % (START[200], self.clock.line(), head, len(body), body)
        )
        if not self._is_full:
            self.deadline = self._loop.time() + IDLE_S
            self._next()

    def _method(self) -> str:
        method: bytes = self._parser.get_method()
        return method.decode("ascii")

    def _path(self) -> str:
        path = self._url.partition(b"?")[0]
        if not path.startswith(b"/"):  # absolute, as proxies ask
            try:
                path = httptools.parse_url(self._url).path or b"/"
            except httptools.HttpParserError as error:
                raise Refused(400, "the target is no URL", field="path") from error
        text = path.decode("latin-1")
        return unquote(text) if "%" in text else text

    def _refuse(self, refused: Refused) -> None:
        """Answer what could not be read, and nothing behind it: where that begins is unknown."""
        method = self._method() if self._url else "GET"
        request = Request(method, "/", self._headers, b"", self, refused=refused)
        if refused.field != "request":
            request.path = self._url.partition(b"?")[0].decode("latin-1")
        self._begin()
        self._add(request)
        self._is_last = True

    def _add(self, request: Request) -> None:
        if not (self._is_asked or self._is_full or self._waiting):
            self.start(request)
            return
        self._waiting.append(request)
        if not self._is_asked:
            self._next()
        elif not self._is_paused:
            self._is_paused = True
            self.transport.pause_reading()

    def _next(self) -> None:
        """Answer the next request, if there is one and the client takes answers."""
        if self._is_asked or self._is_full or not self._waiting:
            return
        self.start(self._waiting.popleft())
        if self._is_paused and not self._waiting and not self._is_last:
            self._is_paused = False
            self.transport.resume_reading()

    def start(self, request: Request) -> None:
        """Begin to answer a request."""
        self._is_asked = True
        self.deadline = FOREVER
        self._task = self._loop.create_task(self._serve(request))
        if self.is_gone:  # since the fast path has had it
            self._outlive(self._task)

    def _outlive(self, task: asyncio.Task[None]) -> None:
        self._open.tasks.add(task)
        task.add_done_callback(self._open.tasks.discard)

    async def _serve(self, request: Request) -> None:
        answer = await self._app.answer(request)
        self._task = None
        self._is_asked = False
        if self.is_gone:
            return
        closes = (
            not request.keeps_alive
            or self._app.is_stopping
            or request.refused is not None
            or (self._is_last and not self._waiting)
        )
        self._write(request, answer, closes)
        if closes:
            self.transport.close()
            return
        if not self._is_full:
            self.deadline = self._loop.time() + IDLE_S
            self._next()

    def _write(self, request: Request, answer: Answer, closes: bool) -> None:
        parts = [START[answer.status], self.clock.line()]
        for name, value in answer.headers:
            parts += (name, b": ", value, b"\r\n")
        if closes:
            parts.append(b"connection: close\r\n")
        elif request.is_old:
            parts.append(b"connection: keep-alive\r\n")
        parts.append(b"content-length: %d\r\n\r\n" % len(answer.body))
        if request.method != "HEAD":
            parts.append(answer.body)
        self.transport.write(b"".join(parts))

    # What ends a connection

    def shutdown(self) -> None:
        """End at once where nothing is asked; `App.is_stopping` ends the others."""
        self._is_last = True
        if not (self._is_asked or self._waiting):
            self.transport.close()

    def end_late(self) -> None:
        """End what has waited for too long: 408 in the middle of a request, a closed door else."""
        self.deadline = FOREVER
        if self._is_full:
            self.transport.abort()
        elif self._url:
            place = "body" if self._has_headers else "headers"
            self._refuse(Refused(408, f"the {place} did not arrive in time", field=place))
        else:
            self.transport.close()


def end_late(connections: Iterable[Connection], now: float) -> None:
    """End the connections whose time is over; `now` is on the loop's clock."""
    for connection in [one for one in connections if one.deadline < now]:
        connection.end_late()
