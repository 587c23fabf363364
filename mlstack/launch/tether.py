"""Become a command that the kernel sends a signal when the process that started it dies.

Started as a script, `python -I -S tether.py PARENT SIGNAL COMMAND...`: setting the signal in a
`preexec_fn` would fork a process that has threads, which Python warns of.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def tied(number: int, command: list[str]) -> list[str]:
    """Give the command that gets signal `number` when the thread that starts it ends."""
    tether = [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(int(number))]
    return [*tether, *command]


def tie(parent: int, number: int) -> None:
    """Ask for a signal when the thread that started this process ends; Linux only."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it died before the line above
        os.kill(os.getpid(), number)


if __name__ == "__main__":
    tie(int(sys.argv[1]), int(sys.argv[2]))
    os.execv(sys.argv[3], sys.argv[3:])
