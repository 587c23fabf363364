"""One HTTP request as the handlers see it."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from mlstack.serve.worker import tracing
from mlstack.serve.worker.answers import Refused, bad
from mlstack.serve.worker.tracing import Trace

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]

BODY_TIMEOUT_S = 30.0
MAX_HEADER_BYTES = 64 << 10
MAX_ID = 128


@dataclass(slots=True)
class Request:
    """What was asked, how, and when."""

    method: str
    path: str
    headers: dict[bytes, bytes]
    receive: Receive
    started: float = field(default_factory=time.perf_counter)
    route: str = "other"
    version: int = 0
    prediction_id: str = ""
    caller: str = ""  # id of the API key
    given_id: str = ""  # the caller's own id, where it can be repeated
    trace: Trace | None = None

    @classmethod
    def of(cls, scope: dict[str, Any], receive: Receive) -> "Request":
        """Read an ASGI scope."""
        return cls(scope["method"], scope["path"], dict(scope["headers"]), receive)

    def is_gone(self) -> bool:
        """Tell whether the client has hung up, so that its rows need not run.

        ASGI says so only to who waits for it; a waiting task for every request would cost more
        than most predictions. uvicorn's object behind `receive` knows.
        """
        return bool(getattr(getattr(self.receive, "__self__", None), "disconnected", False))

    def seconds(self) -> float:
        """Tell how long ago the request began."""
        return time.perf_counter() - self.started

    def request_id(self) -> str:
        """Give the caller's own id.

        Raises:
            Refused: 400, it is too long or not plain ASCII.
        """
        return self._name(b"x-request-id")

    def begin(self) -> None:
        """Note by what names the caller knows it; what is no name is passed over here."""
        given = self.headers.get(b"x-request-id", b"")
        if len(given) <= MAX_ID and given.isascii():
            text = given.decode()
            self.given_id = text if text.isprintable() else ""
        self.trace = tracing.read(self.headers.get(b"traceparent", b""))

    def names(self) -> list[tuple[bytes, bytes]]:
        """Give the headers by which a caller, and who reads our logs, finds it again."""
        name = self.given_id or self.prediction_id or new_id()
        self.given_id = name
        found = [(b"x-request-id", name.encode())]
        return [*found, (b"traceparent", self.trace.header())] if self.trace else found

    def sticky_key(self) -> str:
        """Give what decides between live model and canary: the session, else the request."""
        return self._name(b"x-session-id") or self._name(b"x-request-id") or self.prediction_id

    async def body(self, limit: int) -> bytes:
        """Read the body.

        Raises:
            Refused: 413 larger than `limit`, 408 too slow, 415 compressed, 431 huge headers.
        """
        self._check_headers(limit)
        message = await self.receive()
        content: bytes = message.get("body", b"")
        if not message.get("more_body", False):
            return content if len(content) <= limit else self._too_large(limit)
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                return await self._rest(content, limit)
        except TimeoutError as error:
            raise Refused(408, "the body did not arrive in time", field="body") from error

    async def _rest(self, content: bytes, limit: int) -> bytes:
        pieces, size = [content], len(content)
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise Refused(400, "the client hung up", field="body")
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            if size > limit:
                self._too_large(limit)
            if not message.get("more_body", False):
                return b"".join(pieces)

    def _check_headers(self, limit: int) -> None:
        if sum(len(name) + len(value) for name, value in self.headers.items()) > MAX_HEADER_BYTES:
            raise Refused(431, f"more than {MAX_HEADER_BYTES} bytes of headers", field="headers")
        if self.headers.get(b"content-encoding", b"identity") != b"identity":
            raise Refused(415, "compressed bodies are not read", field="content-encoding")
        length = self.headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:18]) > limit:
            self._too_large(limit)

    def _too_large(self, limit: int) -> bytes:
        raise Refused(
            413,
            f"larger than {limit} bytes (`serve.max_body_mb`)",
            field="body",
            headers=[(b"connection", b"close")],
        )

    def _name(self, header: bytes) -> str:
        value = self.headers.get(header, b"")
        if not value:
            return ""
        if len(value) > MAX_ID or not value.isascii():
            raise bad(f"at most {MAX_ID} plain characters", header.decode())
        return value.decode()


def new_id() -> str:
    """Make a prediction id: a UUID of version 7, so that ids sort by time."""
    value = (time.time_ns() // 1_000_000) << 80 | random.getrandbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
