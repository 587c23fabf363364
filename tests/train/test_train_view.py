"""What a person sees of a run."""

import io
import os
import pty
import subprocess
import sys
from typing import Any

import pytest
from rich.console import Console

from mlstack.train import view
from mlstack.train.results import RunList, RunRow

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


def test_a_run_that_ended_before_its_first_epoch_is_not_said_to_have_none_to_do() -> None:
    row = RunRow(id="r", state="stopped", created="2026-01-01T00:00:00Z", dataset="1234abcd")

    shown = drawn(view.draw(RunList(runs=[row])))

    assert shown.splitlines()[1].split() == ["r", "stopped", "none", "1234abcd"]


def drawn(what: Any) -> str:
    console = Console(width=120, force_terminal=False, file=io.StringIO())
    console.print(what, markup=False)
    return console.file.getvalue()
