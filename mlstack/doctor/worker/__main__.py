"""`python -m mlstack.doctor.worker torch|onnxruntime`: one record on stdout."""

import sys

from mlstack.doctor.seen import Seen
from mlstack.launch.worker import report


def _look(library: str) -> Seen:
    # Only the library that is asked about is imported: a broken one must not hide the other.
    if library == "torch":
        from mlstack.doctor.worker.pytorch import look_at_torch  # noqa: PLC0415

        return look_at_torch()
    from mlstack.doctor.worker.onnx import look_at_onnxruntime  # noqa: PLC0415

    return look_at_onnxruntime()


if __name__ == "__main__":
    sys.exit(report((_look(name) for name in sys.argv[1:2]), sys.stdout.buffer))
