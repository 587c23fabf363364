"""What a run tells of a user's code that ends the process, or gives what nobody can use."""

import math
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mlstack.records import base
from mlstack.records.run import SPEC, Failed, Finished, RunSpec, read_events
from mlstack.train.worker.failure import hint_of, tell_failure

Plan = Callable[..., Path]
Start = Callable[..., "subprocess.Popen[str]"]

pytestmark = pytest.mark.filterwarnings("ignore")

OWN_CODE = """
import sys
import torch
from my_project.data import Images
from my_project.model import Net
from torch.utils.data import DataLoader

class Leaves(Net):
    def training_step(self, batch, batch_idx):
        sys.exit(0)

class Idle(Net):
    def configure_optimizers(self):
        return None

class Misspelled(Net):
    def configure_optimizers(self):
        return {"optim": super().configure_optimizers()}

class Endless(Net):
    def test_step(self, batch, batch_idx):
        self.log("test/far", float("inf"))
        return super().test_step(batch, batch_idx)

class Unreadable(torch.utils.data.Dataset):
    def __len__(self):
        return 64
    def __getitem__(self, index):
        raise OSError("no such picture")

class ByProcesses(Images):
    def train_dataloader(self):
        return DataLoader(Unreadable(), 32, num_workers=1)
"""


def trained(plan: Plan, start: Start, name: str, *sets: str) -> tuple[int, object]:
    """Train with one of the classes above; give the exit code and the last event."""
    folder = plan(name, "train.epochs=1", *sets)
    (Path(base.read(folder / SPEC, RunSpec).root) / "own_code.py").write_text(OWN_CODE)
    process = start(folder)
    process.communicate(timeout=60)
    return process.returncode, read_events(folder)[-1]


@pytest.mark.parametrize(
    ("setting", "problem", "hint"),
    [
        ("model.class=own_code:Leaves", "own_code.py:10: SystemExit: 0", "ends the process"),
        ("model.class=own_code:Idle", "gives no optimizer", "return one"),
        ("model.class=own_code:Misspelled", "KeyError: 'optimizer'", "{'optimizer': ..."),
        ("data.module=own_code:ByProcesses", "own_code.py:29: OSError: no such picture", ""),
    ],
)
def test_a_run_that_its_own_code_ends_says_where_or_what_to_return(
    plan: Plan, start: Start, setting: str, problem: str, hint: str
) -> None:
    code, failed = trained(plan, start, setting.rpartition(":")[2], setting)

    assert code == 1 and isinstance(failed, Failed)
    assert problem in failed.problem and hint in failed.hint


def test_a_measure_of_the_test_part_that_is_no_number_damages_no_run(
    plan: Plan, start: Start
) -> None:
    code, finished = trained(plan, start, "endless", "model.class=own_code:Endless")

    assert code == 0 and isinstance(finished, Finished)
    assert "test/far" not in finished.metrics and "test/acc" in finished.metrics
    assert all(math.isfinite(value) for value in finished.metrics.values())


class Wordless(Exception):
    """Cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (Wordless(), "Wordless"),
        (ValueError("half a letter: \ud800"), "ValueError: half a letter: ?"),
        (ValueError("y" * 100_000), "ValueError: " + "y" * 488 + "..."),
    ],
    ids=["wordless", "no-text", "endless"],
)
def test_an_error_that_cannot_be_told_as_it_is_is_told_nevertheless(
    tmp_path: Path, error: Exception, problem: str
) -> None:
    tell_failure(tmp_path, "r", 0, error, tmp_path)

    (failed,) = [one for one in read_events(tmp_path) if isinstance(one, Failed)]
    assert failed.problem == problem


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("grad can be implicitly created only for scalar outputs", "loss.mean()"),
        ("No `training_step()` method defined. Lightning `Trainer` expects", "training_step"),
        ("An invalid dataloader was returned from `D.train_dataloader()`", "a DataLoader"),
        ("DataLoader worker (pid(s) 938) exited unexpectedly", "num_workers=0"),
    ],
)
def test_other_slips_get_a_hint_too(said: str, words: str) -> None:
    assert words in hint_of(RuntimeError(said))
