"""What the server's process holds on to."""

import asyncio
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mlstack.records import requests
from mlstack.records.server import LogSpec
from mlstack.serve.worker.columns import Entry
from mlstack.serve.worker.log import RequestLog

# Blocks of 4 MB with small ones between, after a larger one was freed: what a change of the model
# leaves behind. `numpy.ones` touches the pages; the small blocks stay.
CHANGE = """
import psutil, numpy
from mlstack.serve.worker.memory import map_large_blocks
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


def test_the_log_lets_go_of_the_inputs_that_it_has_written(tmp_path: Path) -> None:
    rows = list(np.full((2, 2048), 7, np.uint8))
    held = sys.getrefcount(rows[0])
    log = RequestLog(tmp_path, "digits", LogSpec())

    async def keep() -> None:
        log.start([])
        for number in range(50):
            inputs = [memoryview(row) for row in rows]
            log.add(Entry(f"id {number}", "", 0, 1, "predict", 200, count=2, inputs=inputs))
        log.add(Entry("refused", "", 0, 1, "predict", 400, error="is wrong"))
        log.add(Entry("small", "", 0, 1, "predict", 200, inputs=[b""]))
        while log.written_rows < 102:
            await asyncio.sleep(0.01)

    asyncio.run(keep())
    log.close()

    assert sys.getrefcount(rows[0]) < held + 10  # one more for every answer otherwise
    parts = requests.parts(tmp_path, "digits")
    inputs = [one for part in parts for one in requests.read_part(part)["input"].to_pylist()]
    assert sorted(inputs, key=str) == sorted([b"\x07" * 2048] * 100 + [None, b""], key=str)
