"""What rank 0 says about the speed of each epoch."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mlstack.records import base
from mlstack.records.run import SPEC, RunSpec
from mlstack.records.system import Speed, read_system
from mlstack.train.worker import job
from mlstack.train.worker.speed import examples_in
from mlstack.train.worker.stop import StopRequest

Plan = Callable[..., Path]

pytestmark = pytest.mark.filterwarnings("ignore")

IMAGES = 160  # of train
NAP_S = 0.005  # that each of them takes
SLOW = """
import time
NAP_S = 0.005
from my_project.data import Images
from torch.utils.data import Dataset

class Slow(Dataset):
    def __init__(self, inner):
        self.inner = inner
    def __len__(self):
        return len(self.inner)
    def __getitem__(self, index):
        time.sleep(NAP_S)
        return self.inner[index]

class Waited(Images):
    def setup(self, stage=None):
        super().setup(stage)
        if not isinstance(self.parts["train"], Slow):
            self.parts["train"] = Slow(self.parts["train"])
"""


def run(folder: Path) -> list[Speed]:
    """Train in this process; give what was said of each epoch."""
    stop = StopRequest()
    stop.install()
    job.run(folder, base.read(folder / SPEC, RunSpec), stop, resume=False)
    return [one for one in read_system(folder) if isinstance(one, Speed)]


def waited_s(speed: Speed) -> float:
    """Give the seconds of the epoch that went into waiting."""
    return speed.loader_wait * IMAGES / speed.examples_per_s


def test_a_loader_that_is_waited_for_is_told_from_one_that_is_not(plan: Plan) -> None:
    slow, fast = plan("slow", "data.module=slow_data:Waited"), plan("fast")
    root = Path(base.read(slow / SPEC, RunSpec).root)
    (root / "slow_data.py").write_text(SLOW)

    waited, ready = run(slow), run(fast)

    assert [one.epoch for one in waited] == [1, 2]
    assert all(waited_s(one) > IMAGES * NAP_S for one in waited)
    assert all(waited_s(one) < IMAGES * NAP_S / 2 for one in ready)
    assert all(one.gpu_memory_bytes is None for one in ready)


def test_the_speed_is_that_of_the_examples_and_the_clock(plan: Plan) -> None:
    folder = plan("clock", "train.epochs=3")
    began = time.monotonic()

    said = run(folder)

    seconds = sum(IMAGES / one.examples_per_s for one in said)
    assert 0 < seconds < time.monotonic() - began


def test_examples_are_counted_in_every_shape_of_batch() -> None:
    images, targets = torch.zeros(7, 3), torch.zeros(7)

    batches = [images, [images, targets], {"x": images, "y": targets}, ("id", (images, targets))]

    assert [examples_in(batch) for batch in batches] == [7, 7, 7, 7]
    assert examples_in("nothing to count") == 0
