"""How every command ends: its exit code, and the one place that shows errors."""

import contextlib
import errno
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from mlstack.errors import ConfigError, Interrupted, MachineError, MlstackError, StepError

INTERRUPTED = Interrupted("interrupted", hint="nothing is half written; type it again")


def run(command: Callable[[], Any], arguments: list[str]) -> NoReturn:
    """Run a command and end with its exit code; no error leaves here as a traceback."""
    signal.signal(signal.SIGTERM, _terminate)
    _open_streams()
    try:
        code = command()
        sys.stdout.flush()
        if code == Interrupted.exit_code:  # typer swallows the KeyboardInterrupt
            code = show(INTERRUPTED, arguments)
    except SystemExit as left:  # typer turns a closed pipe into exit 1
        _mute()
        code = 0 if isinstance(left.__context__, BrokenPipeError) else left.code
    except KeyboardInterrupt:
        code = show(INTERRUPTED, arguments)
    except MlstackError as error:
        code = show(error, arguments)
    except BrokenPipeError:
        _mute()
        code = 0
    except Exception as error:
        code = show(_usage(error) or _machine(error) or _bug(error), arguments)
    try:
        sys.stdout.flush()
    except OSError:  # Python would try it once more at its own end, and exit with 120
        _mute()
    sys.exit(code if isinstance(code, int) else 0)


def run_and_vanish(command: Callable[[], Any], arguments: list[str]) -> NoReturn:
    """Do the same for a command without threads, and do not wait for Python to tidy its memory."""
    try:
        run(command, arguments)
    except SystemExit as end:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else 0)


def _open_streams() -> None:
    """Give closed standard streams a place, lest the next file that is opened becomes stdout."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal in ASCII shows ? instead of failing


def _mute() -> None:
    """Let what is still in the buffers of stdout and stderr go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)


def _terminate(*_: object) -> None:
    raise Interrupted("stopped by SIGTERM", exit_code=143)


def show(error: MlstackError, arguments: list[str]) -> int:
    """Show an error and give its exit code."""
    from mlstack import ui  # noqa: PLC0415  an error is rare

    if "--debug" in arguments and not isinstance(error, Interrupted):
        traceback.print_exception(error)
    try:
        ui.show_error(error, ui.show_mode(arguments))
    except OSError:  # nobody can hear it: the pipe is closed, or the disk under it is full
        _mute()
    return error.exit_code


def _usage(error: Exception) -> MlstackError | None:
    """Turn what typer says of a wrong option into our own error; None for anything else."""
    context = getattr(error, "ctx", None)
    message = getattr(error, "format_message", None)
    if message is None:
        return None
    path = context.command_path.replace(" (default)", "") if context else "mlstack"
    return ConfigError(message().replace("Value error, ", ""), hint=f"type `{path} --help`")


REFUSALS = {
    errno.ENOSPC: ("the disk is full", "free some space, then type it again"),
    errno.EDQUOT: ("the disk quota is used up", "free some space, then type it again"),
    errno.EFBIG: ("a file would get larger than is allowed here", "see `ulimit -f`"),
    errno.EIO: ("input or output failed", "is the disk, or the terminal, gone?"),
    errno.EROFS: ("the disk is read-only", "choose a folder that can be written"),
    errno.EACCES: ("permission denied", "check who owns it, and its permissions"),
    errno.EPERM: ("permission denied", "check who owns it, and its permissions"),
    errno.ENOTDIR: ("there is a file where a folder must be", "move that file away"),
    errno.EEXIST: ("there is a file where a folder must be", "move that file away"),
    errno.EMFILE: ("too many open files", "type `ulimit -n 65535`, then type it again"),
}


def _machine(error: Exception) -> MlstackError | None:
    """Turn what the system refuses, wherever it did, into our own error; None for the rest."""
    if not isinstance(error, OSError) or error.errno not in REFUSALS:
        return None
    problem, hint = REFUSALS[error.errno]
    return MachineError(f"{problem}: `{error.filename}`" if error.filename else problem, hint=hint)


def _bug(error: Exception) -> MlstackError:
    """Keep the traceback of an unforeseen error where it can be found."""
    state = Path(".mlstack")
    place = state / "last-error.txt"
    text = "".join(traceback.format_exception(error))
    if not state.is_dir():
        return StepError(f"{type(error).__name__}: {error}", hint="type it again with --debug")
    with contextlib.suppress(OSError):  # the error itself matters more than its copy
        place.write_text(text, errors="replace")
    return StepError(
        f"{type(error).__name__}: {error}", hint=f"this is a bug of mlstack; see {place}"
    )
