"""The light import of what a rank runs leaves nothing behind."""

import subprocess
import sys

SCRIPT = """
import gc, sys
from mlstack.train.worker.engine import job
assert gc.isenabled()
assert "scipy.signal" not in sys.modules
import scipy.signal
import torchmetrics
print(scipy.signal.medfilt([1.0, 9.0, 1.0, 2.0, 1.0], 3).tolist(), job.run.__name__)
print(torchmetrics.functional.accuracy.__name__)
"""


def test_after_the_import_scipy_is_whole_and_garbage_is_collected() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)

    assert done.stdout.splitlines() == ["[1.0, 1.0, 2.0, 1.0, 1.0] run", "accuracy"], done.stderr
