"""`python -m mlstack.doctor.worker WHAT`: one record on stdout.

WHAT is torch or onnxruntime, each with a limit in SECONDS; peer-to-peer; or all-reduce BACKEND with
the environment of torchrun.
"""

import signal
import sys

from mlstack.doctor.seen import Seen
from mlstack.launch.worker import report


def _look(what: str, *more: str) -> Seen:
    # Only the library that is asked about is imported: a broken one must not hide the other.
    if what == "torch":
        from mlstack.doctor.worker.pytorch import look_at_torch  # noqa: PLC0415

        signal.alarm(int(more[0]))  # ends this process, wherever in a driver it is
        return look_at_torch()
    if what in ("all-reduce", "peer-to-peer"):
        from mlstack.doctor.worker.group import add_up, copy_between  # noqa: PLC0415

        return add_up(*more) if what == "all-reduce" else copy_between()
    from mlstack.doctor.worker.onnx import look_at_onnxruntime  # noqa: PLC0415

    signal.alarm(int(more[0]))
    return look_at_onnxruntime()


if __name__ == "__main__":
    sys.exit(report((_look(*words) for words in [sys.argv[1:]]), sys.stdout.buffer))
