"""Import what every rank needs once, fork the ranks, and tell how each one ends.

Started by `forked.py` as `python -m mlstack.launch.forkserver ORDER`, in the environment that the
ranks are to have. stdout takes the reports, one a line: a rank's pid, later its exit code. stdin is
a lifeline: when it closes, the ranks are killed and this process ends. Until then the dead stay
unburied, so that no pid of theirs is given to somebody else while the supervisor may still signal
it. The ranks die with this process, and this process with the supervisor (`tether.py`).

A fork takes one thread along and leaves the locks of all others held for ever, so the ranks are
forked only while there are none; else each is started as a process that imports by itself.
"""

import ctypes
import gc
import importlib
import os
import runpy
import select
import signal
import sys
from contextlib import suppress
from pathlib import Path

import msgspec

from mlstack.launch import tether

# Libraries that start threads when they are loaded, and what keeps them from it.
THREADLESS = {
    "OPENBLAS_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
RANK_VARIABLES = ("RANK", "LOCAL_RANK", "ROLE_RANK")
PR_SET_NAME = 15


class Order(msgspec.Struct, frozen=True):
    """What to import, what each rank runs, and the file that takes what it prints."""

    preload: str
    module: str
    arguments: list[str]
    logs: list[str]


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """A rank has started (`pid`) or ended (`code`, negative for a signal)."""

    rank: int
    pid: int = 0
    code: int | None = None


def main(order: Order) -> str:
    """Start the ranks and report until all have ended; only in a forked rank, give what it runs."""
    reports = os.dup(1)
    os.dup2(2, 1)  # what is imported may print
    added = {name: value for name, value in THREADLESS.items() if name not in os.environ}
    os.environ.update(added)
    is_warm = _import(order.preload) and _is_alone()
    gc.collect()
    gc.freeze()  # the collector would touch, and so copy, what the ranks share
    server = os.getpid()
    pids: list[int] = []
    for number in range(len(order.logs)):
        pid = os.fork() if is_warm else _spawn(order, number, added)
        if pid == 0:
            os.close(reports)
            _become_rank(order, number, server, added)
            return order.module
        pids.append(pid)
        _report(reports, Report(number, pid=pid))
    _watch(pids, reports)
    os._exit(0)  # taking torch apart would take a second, and there is nothing to write


def _import(module: str) -> bool:
    """Import what the ranks share; one that is missing or broken they will name themselves."""
    try:
        importlib.import_module(module)
    except (ImportError, OSError) as error:
        sys.stderr.write(f"the ranks import by themselves: {error}\n")
        return False
    return True


def _is_alone() -> bool:
    threads = list(Path("/proc/self/task").iterdir())
    if len(threads) == 1:
        return True
    names = ", ".join(sorted((thread / "comm").read_text().strip() for thread in threads))
    sys.stderr.write(f"the ranks import by themselves, for there are threads: {names}\n")
    return False


def _spawn(order: Order, number: int, added: dict[str, str]) -> int:
    """Start a rank that imports by itself."""
    given = {name: value for name, value in os.environ.items() if name not in added}
    worker = [sys.executable, "-m", order.module, *order.arguments]
    command = tether.tied(signal.SIGKILL, worker)
    appending = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    return os.posix_spawn(
        command[0],
        command,
        given | dict.fromkeys(RANK_VARIABLES, str(number)),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, order.logs[number], appending, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )


def _become_rank(order: Order, number: int, server: int, added: dict[str, str]) -> None:
    """Turn a fork into what `python -m MODULE` would have started."""
    tether.tie(server, signal.SIGKILL)
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_NAME, f"mlstack-rank-{number}"[:15].encode())  # for ps and top
    for path, flags, descriptors in (
        (os.devnull, os.O_RDONLY, (0,)),
        (order.logs[number], os.O_WRONLY | os.O_APPEND | os.O_CREAT, (1, 2)),
    ):
        opened = os.open(path, flags, 0o644)
        for descriptor in descriptors:
            os.dup2(opened, descriptor)
        os.close(opened)
    for name in added:
        del os.environ[name]
    os.environ.update(dict.fromkeys(RANK_VARIABLES, str(number)))
    sys.argv[1:] = order.arguments
    if "OPENBLAS_NUM_THREADS" in added:
        _give_blas_its_threads(threads_of(os.environ.get("OMP_NUM_THREADS", "")))


def threads_of(setting: str) -> int:
    """Read OMP_NUM_THREADS: a number, or one for each level of nesting; 1 for anything else."""
    first = setting.partition(",")[0].strip()
    return max(1, int(first)) if first.isdecimal() else 1


def _give_blas_its_threads(count: int) -> None:
    """Let every OpenBLAS have the threads that it would have started when it was loaded."""
    if count == 1:
        return
    maps = Path("/proc/self/maps").read_text().splitlines()
    for library in {line.split()[-1] for line in maps if "openblas" in line}:
        blas = ctypes.CDLL(library)
        for name in ("openblas_set_num_threads", "scipy_openblas_set_num_threads"):
            for symbol in (name, f"{name}64_"):
                with suppress(AttributeError):
                    getattr(blas, symbol)(count)


def _watch(pids: list[int], reports: int) -> None:
    """Report each end as it comes; return, with all ranks dead, when the lifeline closes."""
    poller = select.poll()
    poller.register(0, select.POLLIN | select.POLLHUP)
    ends = {os.pidfd_open(pid): (number, pid) for number, pid in enumerate(pids)}
    for descriptor in ends:
        poller.register(descriptor, select.POLLIN)
    while True:
        for descriptor, _ in poller.poll():
            if descriptor == 0:
                if not os.read(0, 1):
                    return _kill(pids)
                continue
            number, pid = ends[descriptor]
            poller.unregister(descriptor)
            _report(reports, Report(number, code=_code(pid)))


def _code(pid: int) -> int:
    """Give the exit code of a dead child and leave it unburied."""
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert ended is not None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def _kill(pids: list[int]) -> None:
    """End the ranks and bury them; what they used is counted as this process's children's."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
    for pid in pids:
        os.waitpid(pid, 0)


def _report(reports: int, report: Report) -> None:
    with suppress(BrokenPipeError):  # the supervisor is gone, and this process soon, too
        os.write(reports, msgspec.json.encode(report) + b"\n")


if __name__ == "__main__":
    rank = main(msgspec.json.decode(sys.argv[1], type=Order))
    runpy.run_module(rank, run_name="__main__", alter_sys=True)
