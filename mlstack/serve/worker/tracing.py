"""W3C Trace Context: whose request this is a part of (https://www.w3.org/TR/trace-context/)."""

import random
import re
from dataclasses import dataclass

PATTERN = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
UNKNOWN_TRACE = b"0" * 32
UNKNOWN_SPAN = b"0" * 16


@dataclass(frozen=True, slots=True)
class Trace:
    """The trace of a caller, and our own span in it."""

    trace_id: str
    parent_id: str  # the caller's span; empty where the trace begins here
    span_id: str
    flags: str

    def header(self) -> bytes:
        """Write the `traceparent` that the answer carries: the same trace, our span."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}".encode()


def read(header: bytes) -> Trace | None:
    """Read a `traceparent`; None where there is none, or where it says nothing that can be used."""
    found = PATTERN.fullmatch(header.strip())
    if found is None:
        return None
    version, trace, parent, flags, rest = found.groups()
    if version == b"ff" or (version == b"00" and rest is not None):
        return None
    if trace == UNKNOWN_TRACE or parent == UNKNOWN_SPAN:
        return None
    return Trace(trace.decode(), parent.decode(), _span(), flags.decode())


def start() -> Trace:
    """Begin a trace of our own, which is sampled."""
    return Trace(f"{random.getrandbits(128) or 1:032x}", "", _span(), "01")


def _span() -> str:
    return f"{random.getrandbits(64) or 1:016x}"
