"""What a person sees of a run."""

import os
import pty
import subprocess
import sys

import pytest

SHOW = """
from mlstack import ui
from mlstack.records.run import EpochEnded
from mlstack.train import view
from mlstack.train.results import RunList

logged = {"val/loss": 1.0896, "val/acc": 0.4, "train/loss": 1.0969, "train/acc": 0.3458}
last = {"metrics": logged, "best": True, "seconds": 0.7}
epoch = EpochEnded(run="r", at=0, epoch=1, epochs=12, step=4, **last)
ui.show(iter((epoch, RunList(runs=[]))), view.draw, ui.Mode.TEXT)
"""


@pytest.mark.parametrize("columns", [80, 120])
def test_an_epoch_takes_one_line_of_a_terminal_however_narrow(columns: int) -> None:
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": str(columns)}
    words = [sys.executable, "-c", SHOW]

    subprocess.run(words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, check=True)

    shown = os.read(ours, 65536).decode().splitlines()[0]
    assert shown.startswith("epoch  1/12  val/loss 1.0896  val/acc 0.4000")
    assert shown.endswith("0.7 s  best")
    assert ("train/acc" in shown) == (columns == 120)
