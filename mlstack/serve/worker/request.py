"""One HTTP request as the handlers see it."""

import math
import random
import time
from dataclasses import dataclass, field
from typing import Protocol

from mlstack.serve.worker import tracing
from mlstack.serve.worker.answers import Refused, bad
from mlstack.serve.worker.tracing import Trace

MAX_HEADER_BYTES = 64 << 10
MAX_ID = 128
VARIANTS = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))  # of a UUID


class Caller(Protocol):
    """Who asks: the connection."""

    is_gone: bool


@dataclass(slots=True)
class Request:
    """What was asked, how, and when."""

    method: str
    path: str
    headers: dict[bytes, bytes]
    content: bytes
    connection: Caller
    refused: Refused | None = None  # why it could not be read
    keeps_alive: bool = False  # the connection goes on behind it
    is_old: bool = False  # HTTP/1.0, which must be told so
    started: float = field(default_factory=time.perf_counter)
    route: str = "other"
    version: int = 0
    prediction_id: str = ""
    caller: str = ""  # id of the API key
    given_id: str = ""  # the caller's own id, where it can be repeated
    trace: Trace | None = None

    def is_gone(self) -> bool:
        """Tell whether the client has hung up, so that its rows need not run."""
        return self.connection.is_gone

    def seconds(self) -> float:
        """Tell how long ago the request began."""
        return time.perf_counter() - self.started

    def request_id(self) -> str:
        """Give the caller's own id.

        Raises:
            Refused: 400, it is too long or not plain ASCII.
        """
        return self._name(b"x-request-id")

    def begin(self, *, starts_trace: bool = False) -> None:
        """Note by what names the caller knows it; what is no name is passed over here."""
        given = self.headers.get(b"x-request-id")
        if given is not None and len(given) <= MAX_ID and given.isascii():
            text = given.decode()
            self.given_id = text if text.isprintable() else ""
        if (parent := self.headers.get(b"traceparent")) is not None:
            self.trace = tracing.read(parent)
        if self.trace is None and starts_trace:
            self.trace = tracing.start()

    def names(self) -> list[tuple[bytes, bytes]]:
        """Give the headers by which a caller, and who reads our logs, finds it again."""
        name = self.given_id or self.prediction_id or new_id()
        self.given_id = name
        found = [(b"x-request-id", name.encode())]
        return [*found, (b"traceparent", self.trace.header())] if self.trace else found

    def sticky_key(self) -> str:
        """Give what decides between live model and canary: the session, else the request."""
        return self._name(b"x-session-id") or self._name(b"x-request-id") or self.prediction_id

    def timeout_s(self) -> float:
        """Give the time that the caller allows, `X-Timeout-Ms`; for ever when it says nothing.

        Raises:
            Refused: 400, it is no number of milliseconds.
        """
        given = self.headers.get(b"x-timeout-ms")
        if given is None:
            return math.inf
        if not (given.isdigit() and 0 < len(given) < 8 and int(given) > 0):
            raise bad("must be a whole number of milliseconds above 0", "x-timeout-ms")
        return int(given) / 1000

    async def body(self, limit: int) -> bytes:
        """Give the body, which the connection has read.

        Raises:
            Refused: 413 larger than `limit`, 415 compressed.
        """
        if self.headers.get(b"content-encoding", b"identity") != b"identity":
            raise Refused(415, "compressed bodies are not read", field="content-encoding")
        if len(self.content) > limit:
            raise too_large(limit)
        return self.content

    def _name(self, header: bytes) -> str:
        value = self.headers.get(header, b"")
        if not value:
            return ""
        if len(value) > MAX_ID or not value.isascii():
            raise bad(f"at most {MAX_ID} plain characters", header.decode())
        return value.decode()


def too_large(limit: int) -> Refused:
    """Refuse a body that is larger than `limit` bytes."""
    return Refused(413, f"larger than {limit} bytes (`serve.max_body_mb`)", field="body")


def new_ids(count: int) -> list[str]:
    """Make prediction ids: UUIDs of version 7, so that ids sort by time."""
    ms, chance = time.time_ns() // 1_000_000, random.randbytes(10 * count).hex()
    head = f"{ms >> 16:08x}-{ms & 0xFFFF:04x}-7"
    return [
        f"{head}{chance[i : i + 3]}-{VARIANTS[chance[i + 3]]}{chance[i + 4 : i + 7]}-"
        f"{chance[i + 7 : i + 19]}"
        for i in range(0, 20 * count, 20)
    ]


def new_id() -> str:
    """Make one prediction id."""
    return new_ids(1)[0]
