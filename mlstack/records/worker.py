"""What a worker process says to the process that started it: one JSON record a line on stdout."""

import msgspec

from mlstack.records.base import Record


class WorkerFailed(Record, frozen=True, kw_only=True, tag="worker.failed"):
    """The worker ends badly; `category` names the error class, and so the exit code."""

    problem: str
    hint: str = ""
    where: str = ""
    category: str = "StepError"
    traceback: str = ""


class WorkerProgress(Record, frozen=True, kw_only=True, tag="worker.progress"):
    """How far the worker is with something."""

    text: str
    done: int
    total: int


def encode_line(record: Record) -> bytes:
    """Turn a record into the line that crosses the pipe."""
    return msgspec.json.encode(record) + b"\n"
