"""What `export` leaves out to be quick, and that nothing is missing for it."""

import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pytest

from mlstack.export.worker import clock
from mlstack.records import dataset


def python(code: str) -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_scipy_signal_is_whole_for_whoever_wants_it_after_lightning():
    code = (
        "import sys\n"
        "from mlstack.export.worker import lean\n"
        "with lean.loading(): pass\n"
        "print('pytorch_lightning' in sys.modules, 'scipy.signal' in sys.modules)\n"
        "import scipy.signal\n"
        "print(scipy.signal.windows.hamming(3).round(2).tolist())\n"
    )

    done = python(code)

    assert done.stdout.splitlines() == ["True False", "[0.08, 1.0, 0.08]"], done.stderr


def test_a_process_that_leaves_at_once_still_does_what_was_registered_for_its_end():
    code = (
        "import atexit\n"
        "from mlstack.export.worker import channel\n"
        "atexit.register(print, 'last words')\n"
        "channel.leave(3)\n"
    )

    done = python(code)

    assert (done.returncode, done.stdout) == (3, "last words\n")


def test_a_slow_call_is_made_as_rarely_as_a_median_allows():
    calls = []

    def slow() -> None:
        calls.append(1)
        time.sleep(0.03)

    taken = clock.race({"slow": slow})

    assert len(taken["slow"]) == clock.ROUNDS * clock.LEAST
    assert len(calls) == clock.ROUNDS * (clock.LEAST + 1)


@pytest.mark.parametrize(("slow_calls", "kept"), [(30, [1, 8]), (100_000, [8])])
def test_times_that_cannot_be_true_are_taken_again_and_else_left_out(slow_calls, kept):
    asked = []

    def busy(rows: np.ndarray) -> None:
        if len(rows) == 1:
            asked.append(1)
        time.sleep(0.02 if len(rows) == 1 and len(asked) <= slow_calls else 0.002)

    found = clock.by_size(busy, np.zeros((8, 2), np.float32), (1, 8))

    assert [times.batch for times in found] == kept
    assert all(times.p50_ms < 15 for times in found)


def test_the_table_of_examples_is_read_without_pandas(tmp_path):
    rows = [{"path": "/a", "label": "x", "target": 0, "split": "val"}]
    path = tmp_path / "examples.parquet"
    dataset.write_examples(path, pa.Table.from_pylist(rows, schema=dataset.EXAMPLES_SCHEMA))
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from mlstack.records import dataset\n"
        f"print(dataset.read_examples(Path({str(path)!r})).to_pylist())\n"
        "print('pandas' in sys.modules)\n"
    )

    done = python(code)

    assert done.stdout.splitlines() == [str(rows), "False"], done.stderr
