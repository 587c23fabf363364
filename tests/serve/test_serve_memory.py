"""What the server's process holds on to."""

import subprocess
import sys

import pytest

# Blocks of 4 MB with small ones between, after a larger one was freed: what a change of the model
# leaves behind. `numpy.ones` touches the pages; the small blocks stay.
CHANGE = """
import psutil, numpy
from mlstack.serve.worker.runner import map_large_blocks
def held_mb(): return psutil.Process().memory_info().rss / 1e6
{first}
numpy.ones(24 << 20, numpy.uint8)
before, large, small = held_mb(), [], []
for _ in range(40):
    large.append(numpy.ones(4 << 20, numpy.uint8))
    small.append(numpy.ones(10_000, numpy.uint8))
del large
print(held_mb() - before)
"""
ENCODE = """
import sys, tempfile
from pathlib import Path
from mlstack.records.server import LogSpec
from mlstack.serve.worker.log import RequestLog
RequestLog(Path(tempfile.mkdtemp()), "digits", LogSpec()).start([])
print("pandas" in sys.modules)
import pandas
"""


def said(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc's allocator")
def test_freed_weights_go_back_to_the_system_although_small_blocks_lie_between() -> None:
    assert float(said(CHANGE.format(first="map_large_blocks()"))) < 20
    assert float(said(CHANGE.format(first=""))) > 100  # what it is for


def test_the_log_does_not_load_pandas_and_hides_it_from_nobody_else() -> None:
    pytest.importorskip("pandas")

    assert said(ENCODE) == "False\n"
