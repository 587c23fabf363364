"""Have a package opened by a process that may die, before the server's own opens it.

What a graph does to ONNX Runtime shows when it is opened and not before. A server that opened it
would die, and so would every server after it, for `live.json` names the package. It costs a second,
once for each package: what `export` or `export verify` proved here is known (`records/proven.py`).
"""

import contextlib
import os
import signal
import threading
from pathlib import Path

import msgspec

from mlstack.errors import TERMINATED, DataError, GateError, Interrupted, StepError
from mlstack.launch.worker import run_worker
from mlstack.records import proven
from mlstack.records.layout import Layout
from mlstack.records.package import FILE_LIVE, Live, numbers, read_live
from mlstack.serve.results import Proving

PROVER = "mlstack.serve.worker.prove"
LIMIT_S = 120
# Addresses are limited: threads of numpy's BLAS and arenas of malloc take them, for memory unused.
VARIABLES = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}

_under_way: set[int] = set()  # the processes, by their ids
_is_over = threading.Event()


def check(root: Path, package: Path, limit_s: int = LIMIT_S) -> None:
    """Have a package, or a single .onnx file, opened and asked under limits, unless that was done.

    Args:
        root: the project.
        package: a package's folder, or the file.
        limit_s: until the process is ended.

    Raises:
        DataError: it is not whole or not safe to open.
        GateError: it ended the process that opened it, took too long or too much memory, or
            answered its golden examples otherwise than when it was packed.
        Interrupted: `stop` was called meanwhile.
    """
    layout = Layout(root)
    if proven.is_proven(layout.proven, package):
        return
    arguments = [str(package.absolute()), str(limit_s)]
    decode = msgspec.json.Decoder(Proving).decode
    log, mine = layout.state / "serve-worker.log", set[int]()
    try:
        for proving in run_worker(PROVER, arguments, decode, log, VARIABLES):
            mine.add(proving.pid)
            _under_way.update(mine)
            if _is_over.is_set():
                stop()
    except StepError as error:
        if _is_over.is_set():
            raise Interrupted(
                f"stopped while `{package}` was opened for the first time", exit_code=TERMINATED
            ) from error
        raise GateError(
            f"`{package}` is refused: {_said(error, limit_s)}", hint=_hint(package)
        ) from error
    finally:
        _under_way.difference_update(mine)
    proven.keep(layout.proven, package)


def stop() -> None:
    """Wait for no package that is being opened: this process ends."""
    _is_over.set()
    for pid in list(_under_way):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _said(error: StepError, limit_s: int) -> str:
    """Say how the process ended; a signal by what it stands for here."""
    if "SIGALRM" in error.problem:
        return f"it was not opened and answered within {limit_s} s"
    ended = error.problem.removeprefix(f"`{PROVER}` ")
    return ended if ended == error.problem else f"the process that opened it {ended}"


def _hint(package: Path) -> str:
    """Name what could be served instead."""
    folder = package.absolute().parent
    if not package.is_dir() or not package.name.isdigit():
        return "serve another one"
    others = [number for number in numbers(folder) if str(number) != package.name]
    if not others:
        return "type `mlstack export`: there is no other package"
    try:
        live = read_live(folder / FILE_LIVE)
    except DataError:
        live = Live()
    if str(live.live) == package.name and live.previous in others:
        return f"type `mlstack serve rollback`: package {live.previous} was live before"
    if live.live in others:
        return f"package {live.live} stays live"
    return f"type `mlstack serve promote {others[-1]}`"
