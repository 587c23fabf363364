"""What the server says on stderr: lines for people, or one JSON object a line for machines."""

import datetime
import logging
import sys
import threading
import time
from collections.abc import Iterable
from typing import Any, Literal

import orjson

from mlstack.serve.worker.answers import Answer
from mlstack.serve.worker.request import Request

log = logging.getLogger("mlstack.serve")

FLUSH_S = 0.1
MAX_LINES = 20_000
TOLD = ("event", "model", "version", "reason")  # of `extra`: written as fields of their own


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Write `warning: ...`, or the time and what has happened."""
        text = record.getMessage()
        if record.exc_info:
            return f"error: {text}\n{self.formatException(record.exc_info)}"
        if record.levelno >= logging.WARNING:
            return f"{record.levelname.lower()}: {text}"
        return f"{time.strftime('%H:%M:%S', time.localtime(record.created))} {text}"


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Write one object."""
        fields: dict[str, Any] = {
            "ts": moment(record.created),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        fields |= {name: getattr(record, name) for name in TOLD if hasattr(record, name)}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(fields).decode()


def configure(form: Literal["text", "json"]) -> None:
    """Write what the server says in this form, from now on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Text())
    log.handlers = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False


def first_line(error: BaseException) -> str:
    """Give what is worth saying of an error that was not ours."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def moment(seconds: float) -> str:
    """Write a time in UTC as RFC 3339, with microseconds."""
    when = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return when.isoformat(timespec="microseconds").replace("+00:00", "Z")


class AccessLog:
    """One JSON line a request on stderr, written beside the event loop; bounded, losses counted."""

    def __init__(self, is_on: bool) -> None:
        self.is_on = is_on
        self.lost = 0
        self._lines: list[dict[str, Any]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._write_on, name="access log", daemon=True)
        if is_on:
            self._thread.start()

    def note(self, model: str, request: Request, answer: Answer, seconds: float) -> None:
        """Keep the line of an answer; where nobody reads stderr fast enough it is lost, counted."""
        if len(self._lines) >= MAX_LINES:
            self.lost += 1
            return
        fields: dict[str, Any] = {
            "ts": moment(time.time()),
            "level": "info",
            "event": "request",
            "model": model,
            "version": request.version,
            "route": request.route,
            "method": request.method,
            "status": answer.status,
            "ms": round(seconds * 1000, 3),
            "bytes": len(answer.body),
            "request_id": request.given_id,
        }
        if request.prediction_id:
            fields["prediction_id"] = request.prediction_id
        if request.caller:
            fields["key"] = request.caller
        if request.trace is not None:
            fields["trace_id"] = request.trace.trace_id
            fields["span_id"] = request.trace.span_id
            if request.trace.parent_id:
                fields["parent_id"] = request.trace.parent_id
        self._lines.append(fields)

    def close(self) -> None:
        """Write what is left."""
        if self.is_on:
            self._over.set()
            self._thread.join(timeout=5)

    def _write_on(self) -> None:
        while not self._over.wait(FLUSH_S):
            self._write()
        self._write()

    def _write(self) -> None:
        lines, self._lines = self._lines, []
        if not lines:
            return
        try:
            sys.stderr.write(_joined(lines))
            sys.stderr.flush()
        except OSError:  # the disk is full, or nobody reads any more; it may be otherwise later
            self.lost += len(lines)


def _joined(lines: Iterable[dict[str, Any]]) -> str:
    return "".join(orjson.dumps(line).decode() + "\n" for line in lines)
