"""The error tree: one class for each exit code that scripts may rely on.

    MlstackError
    |-- StepError      1   the step failed
    |-- ConfigError    2   config or usage is wrong; nothing was run
    |-- DataError      3   data or label check failed
    |-- GateError      4   a gate failed; nothing was promoted
    |-- MachineError   6   this machine cannot
    |-- BusyError     75   try again
    `-- Interrupted  130   stopped by the user (143 by SIGTERM); state is saved

Exit code 5 (drift, quality or service alert) is a result of `monitor check`, not an error.
"""

from dataclasses import dataclass

OK = 0
ALERT = 5
TERMINATED = 143


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong, where, and what to type."""

    problem: str
    hint: str = ""
    where: str = ""
    excerpt: str = ""
    key: str = ""
    is_note: bool = False  # a suspicion that is told beside what is wrong


class MlstackError(Exception):
    """An expected failure: `problem` says what and where, `hint` names one thing to do.

    Exceptions never print and never exit; only `ending.run` shows them.
    """

    exit_code = 1

    def __init__(
        self, problem: str, *, hint: str = "", where: str = "", mistakes: tuple[Mistake, ...] = ()
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint
        self.where = where
        self.mistakes = mistakes


class StepError(MlstackError):
    """The step failed."""

    exit_code = 1


class ConfigError(MlstackError):
    """Config or usage is wrong; nothing was run."""

    exit_code = 2


class DataError(MlstackError):
    """A data or label check failed."""

    exit_code = 3


class GateError(MlstackError):
    """A gate failed; nothing was promoted."""

    exit_code = 4


class MachineError(MlstackError):
    """This machine cannot: no GPU, port taken, disk full, missing extra."""

    exit_code = 6


class BusyError(MlstackError):
    """Try again: a lock is held or a remote is down."""

    exit_code = 75


class Interrupted(MlstackError):
    """The user (130) or the system (143) asked to stop; state is saved."""

    exit_code = 130

    def __init__(self, problem: str, *, hint: str = "", exit_code: int = 130) -> None:
        super().__init__(problem, hint=hint)
        self.exit_code = exit_code
