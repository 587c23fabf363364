"""Which rank failed first, and why: what a run's last event says."""

import signal
import time

from msgspec import structs

from mlstack.errors import MachineError
from mlstack.launch.pulse import Hang
from mlstack.launch.ranks import FORKSERVER_LOG, Rank
from mlstack.records.heartbeat import Activity
from mlstack.records.run import Failed

# What the other ranks say when one is gone; true, but never the cause.
PEER_LOST = (
    "Connection reset by peer",
    "Connection closed by peer",
    "Broken pipe",
    "Socket Timeout",
    "remote process exited",
    "ncclRemoteError",
    "gloo",
)
NO_ROOM = "free some space; `mlstack train --resume` goes on"
STACK_LINES = 80  # the innermost call comes first, above some fifty of the library
WHERE = {
    Activity.PREPARING: "while it made ready",
    Activity.LOADING: "between two steps (the data, or a hook)",
    Activity.FORWARD: "in a training step",
    Activity.BACKWARD: "in the backward pass",
    Activity.UPDATING: "in the optimizer step",
    Activity.JUDGING: "in validation or test",
    Activity.SAVING: "while it saved a checkpoint",
}


def first_failure(
    run: str, ranks: list[Rank], codes: list[int | None], failed: list[Failed]
) -> Failed | None:
    """Name the rank that failed first; None when none has.

    A rank that was killed can say nothing, while the others complain of its silence: so a signal
    counts before what others said. SIGABRT is the other way round, libraries raise it when a peer
    is gone.

    Args:
        run: id of the run.
        ranks: the processes.
        codes: exit code of each rank before anything was done about the failure.
        failed: what the ranks themselves said, in the order they said it.
    """
    if not failed and not any(codes):
        return None
    ends = list(zip(ranks, codes, strict=True))
    for rank, code in ends:
        if code is not None and code < 0 and code != -signal.SIGABRT and not rank.is_lost:
            return _died(run, rank, code)
    for rank, code in ends:
        if code and rank.is_lost:
            return _lost(run, rank, code)
    said = [f for f in failed if not is_echo(f)]
    if said:
        return said[0]
    if failed and 0 in codes:
        return left_early(run, ranks, codes)
    if failed:
        return failed[0]
    return next(_died(run, r, c) for r, c in zip(ranks, codes, strict=True) if c)


def left_early(run: str, ranks: list[Rank], codes: list[int | None]) -> Failed:
    """Say that a rank ended well before the run was over."""
    rank = ranks[codes.index(0)]
    return _failed(
        run,
        rank,
        f"{_name(rank, ranks)} ended with exit code 0 before the run was over",
        "does the code call sys.exit, or do the ranks see different numbers of batches?",
    )


def hung(run: str, rank: Rank, hang: Hang) -> Failed:
    """Say that a rank does not move any more, and where it is."""
    return _failed(
        run,
        rank,
        f"rank {rank.number} has not moved for {hang.silent_s:.0f} s {WHERE[hang.activity]}",
        "its stack is in its log; `mlstack train --resume` goes on, and train.hang_limit gives "
        "it more time",
        lines=STACK_LINES,
    )


def _lost(run: str, rank: Rank, code: int) -> Failed:
    """Say that the process which forks the ranks died, and they with it."""
    return _failed(
        run,
        rank,
        f"the process that starts the ranks "
        f"{how_it_ended(code, out_of_memory=rank.met_oom_killer)}",
        f"its last words are in {rank.log.with_name(FORKSERVER_LOG)}; `mlstack train --resume` "
        "goes on",
    )


def _died(run: str, rank: Rank, code: int) -> Failed:
    if code == MachineError.exit_code:  # what a rank says with its code when it cannot write
        problem = f"rank {rank.number} could not write any more; is the disk full?"
        return structs.replace(_failed(run, rank, problem, NO_ROOM), category=MachineError.__name__)
    hint = f"its last words are in {rank.log}"
    if not rank.log.is_file():  # it never began, and its launcher knows why
        hint = rank.last_words(1)
    if code == -signal.SIGKILL:
        hint = "make train.batch_size smaller, then train --resume"
    how = how_it_ended(code, out_of_memory=rank.met_oom_killer)
    return _failed(run, rank, f"rank {rank.number} {how}", hint)


def how_it_ended(code: int, *, out_of_memory: bool) -> str:
    """Put an exit code into words; the kernel kills without any when memory is short."""
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    if name == "SIGKILL" and out_of_memory:
        return "was killed by SIGKILL: the kernel was out of memory"
    if name == "SIGKILL":
        return "was killed by SIGKILL (was the machine out of memory?)"
    return f"was ended by {name}"


def told(
    run: str, problem: str, hint: str, *, category: str = "StepError", rank: int = 0
) -> Failed:
    """Say what was found without a rank that could be asked."""
    return Failed(run=run, at=time.time(), rank=rank, problem=problem, hint=hint, category=category)


def _failed(run: str, rank: Rank, problem: str, hint: str, lines: int = 20) -> Failed:
    return Failed(
        run=run,
        at=time.time(),
        rank=rank.number,
        problem=problem,
        hint=hint,
        traceback=rank.last_words(lines),
    )


def is_echo(failed: Failed) -> bool:
    """Tell whether a rank only says that another one is gone."""
    return any(words in failed.problem + failed.traceback for words in PEER_LOST)


def _name(rank: Rank, ranks: list[Rank]) -> str:
    return f"rank {rank.number}" if len(ranks) > 1 else "the worker"
