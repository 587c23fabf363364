"""Commands of mlstack as a person would type them, each in a process of its own."""

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from mlstack import errors
from mlstack.errors import TERMINATED, Interrupted, MlstackError, StepError
from mlstack.launch import tether


@dataclass(frozen=True)
class Manner:
    """How commands are called: options for each, whether they may talk, how often to try."""

    options: tuple[str, ...] = ()
    is_silent: bool = False
    retries: int = 3
    first_wait_s: float = 2.0  # doubled after each attempt


def typed(root: Path, words: tuple[str, ...], manner: Manner) -> None:
    """Run `mlstack WORDS`; what it prints goes to stderr, its failure becomes ours.

    It leads a session of its own: Ctrl-C reaches us alone, and we ask it to stop, once. When we
    are killed, the kernel asks it.

    Raises:
        MlstackError: it failed; its exit code is passed on.
        SystemExit: we were asked to stop, and it has told how to go on.
    """
    command = [sys.executable, "-m", "mlstack", *words, *manner.options]
    if manner.is_silent:
        command.append("--json")
    target = subprocess.PIPE if manner.is_silent else sys.stderr
    tied = tether.tied(signal.SIGTERM, command)
    with subprocess.Popen(
        tied, cwd=root, stdout=target, text=True, start_new_session=True
    ) as process:
        try:
            said, _ = process.communicate()
        except BaseException as stop:
            _end(process)
            if process.returncode == TERMINATED and not manner.is_silent:
                # It has said so, and how to go on: one error is enough.
                raise SystemExit(getattr(stop, "exit_code", Interrupted.exit_code)) from stop
            raise
    if process.returncode:
        raise _failure(words, process.returncode, said or "")


def _end(process: "subprocess.Popen[str]") -> None:
    """Let a command save what it has; who is asked to stop meanwhile asks it again."""
    process.terminate()
    try:
        process.communicate()
    except (KeyboardInterrupt, Interrupted):
        process.terminate()
        process.communicate()


def _failure(words: tuple[str, ...], code: int, said: str) -> MlstackError:
    problem = f"`mlstack {' '.join(words)}` ended with exit code {code}"
    hint = "mend what it says, then type `mlstack run` again"
    try:
        told = json.loads(said)["error"]
        problem, hint = f"{problem}: {told['problem']}", told["hint"] or hint
    except (ValueError, KeyError, TypeError):
        pass
    if code in _STOPPED:
        return Interrupted(problem, hint="type `mlstack run` again", exit_code=_STOPPED[code])
    return _BY_CODE.get(code, StepError)(problem, hint=hint)


_STOPPED = {130: 130, -2: 130, 143: 143, -15: 143}
_BY_CODE: dict[int, type[MlstackError]] = {
    kind.exit_code: kind
    for kind in (
        errors.StepError,
        errors.ConfigError,
        errors.DataError,
        errors.GateError,
        errors.MachineError,
        errors.BusyError,
    )
}
