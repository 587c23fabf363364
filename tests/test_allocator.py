"""What is freed is kept, or given back at once, as `allocator.keep` was told."""

import subprocess
import sys

import pytest

# Page faults while blocks of 2 MB (512 pages) are filled and freed, each in its turn.
FAULTS = """
import resource
import numpy
from mlstack import allocator
{first}
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def fill(): numpy.ones(2 << 20, numpy.uint8)
fill()
before = faults()
for _ in range(20):
    fill()
print(faults() - before)
"""


def faults(first: str) -> int:
    code = FAULTS.format(first=first)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc's allocator")
def test_memory_that_is_kept_costs_no_page_faults_the_next_time() -> None:
    assert faults("allocator.keep(spare_bytes=allocator.MOST, mapped_bytes=1 << 30)") < 100
    assert faults("allocator.keep(spare_bytes=16 << 20, mapped_bytes=1 << 20)") > 20 * 100
