"""Become a command that the kernel kills when the process that started it dies.

Started as a script, `python -I -S tether.py PARENT COMMAND...`: setting the death signal in a
`preexec_fn` would fork a process that has threads, which Python warns of.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def tie(parent: int) -> None:
    """Ask for SIGKILL when the thread that started this process ends; Linux only."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    tie(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
