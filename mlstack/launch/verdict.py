"""Which rank failed first, and why: what a run's last event says."""

import signal
import time

from mlstack.launch.ranks import Rank
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
    for rank, code in zip(ranks, codes, strict=True):
        if code is not None and code < 0 and code != -signal.SIGABRT:
            return _died(run, rank, code)
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


def hung(run: str, rank: Rank, silent_s: float) -> Failed:
    """Say that a rank does not move any more."""
    return _failed(
        run,
        rank,
        f"rank {rank.number} has not moved for {silent_s:.0f} s",
        "the last lines it printed are in its log; `mlstack train --resume` goes on",
    )


def _died(run: str, rank: Rank, code: int) -> Failed:
    if code > 0:
        problem = f"rank {rank.number} ended with exit code {code}"
        return _failed(run, rank, problem, f"its last words are in {rank.log}")
    name = signal.Signals(-code).name
    if name == "SIGKILL":
        problem = f"rank {rank.number} was killed by SIGKILL (was the machine out of memory?)"
        return _failed(run, rank, problem, "make train.batch_size smaller, then train --resume")
    return _failed(
        run, rank, f"rank {rank.number} was ended by {name}", f"its last words are in {rank.log}"
    )


def _failed(run: str, rank: Rank, problem: str, hint: str) -> Failed:
    return Failed(
        run=run,
        at=time.time(),
        rank=rank.number,
        problem=problem,
        hint=hint,
        traceback=rank.last_words(),
    )


def is_echo(failed: Failed) -> bool:
    """Tell whether a rank only says that another one is gone."""
    return any(words in failed.problem + failed.traceback for words in PEER_LOST)


def _name(rank: Rank, ranks: list[Rank]) -> str:
    return f"rank {rank.number}" if len(ranks) > 1 else "the worker"
