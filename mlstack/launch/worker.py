"""Run a worker once and read what it says: heavy libraries stay in a process of their own."""

import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from mlstack import errors
from mlstack.errors import MlstackError, StepError
from mlstack.launch import tether
from mlstack.launch.user_code import readable, text_of
from mlstack.records.base import Record
from mlstack.records.worker import WorkerFailed, encode_line

Said = TypeVar("Said", bound=Record)


def run_worker(
    module: str,
    arguments: list[str],
    said: Callable[[bytes], Said],
    log: Path,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Said]:
    """Start `python -m MODULE ARGUMENTS` and yield the records of its stdout lines.

    Stderr goes to `log`. The worker is ended when the caller stops listening, or is killed.

    Args:
        module: dotted name of the worker package.
        arguments: its command line.
        said: decodes one line, e.g. the `decode` of a `msgspec.json.Decoder`; a `WorkerFailed`
            need not be among its types.
        log: file for what the worker writes to stderr.
        environment: variables that it gets where the user has not set them.

    Raises:
        MlstackError: what the worker reported, or that it died (its signal is named).
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    command = tether.tied(signal.SIGTERM, [sys.executable, "-m", module, *arguments])
    given = {**(environment or {}), **os.environ}
    with log.open("ab") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=given)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.startswith(_FAILED):
                raise failure(msgspec.json.decode(line, type=WorkerFailed))
            yield said(line)
        code = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            _reap(process)
        process.stdout.close()
    if code:
        raise StepError(f"`{module}` {how_it_ended(code)}", hint=f"see {log}")


def failure(failed: WorkerFailed) -> MlstackError:
    """Turn a worker's last words into the error they describe."""
    kind = getattr(errors, failed.category, StepError)
    error: MlstackError = kind(failed.problem, hint=failed.hint)
    error.where = failed.where
    if failed.traceback:
        error.add_note(failed.traceback)
    return error


def report(records: Iterable[Record], stdout: BinaryIO) -> int:
    """In a worker: write each record as a line; on an error write `WorkerFailed` and give 1."""
    try:
        for record in records:
            stdout.write(encode_line(record))
            stdout.flush()
    except MlstackError as error:
        failed = WorkerFailed(
            problem=error.problem,
            hint=error.hint,
            where=error.where,
            category=type(error).__name__,
        )
    except (Exception, SystemExit) as error:  # the user's code may have called sys.exit
        last = f"{type(error).__name__}: {text_of(error)}".splitlines()[0]
        told = readable("".join(traceback.format_exception(error)))
        failed = WorkerFailed(problem=last, traceback=told)
    else:
        return 0
    stdout.write(encode_line(failed))
    stdout.flush()
    return 1


_FAILED = b'{"kind":"worker.failed"'


def how_it_ended(code: int) -> str:
    """Say how a process ended that gave `code`, and not 0; a signal is named."""
    if code > 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    cause = " (was the machine out of memory?)" if name == "SIGKILL" else ""
    return f"was ended by {name}{cause}"


def _reap(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
