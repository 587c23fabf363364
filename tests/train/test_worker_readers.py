"""Runs gone on with in the middle of an epoch, however data is read and steps are taken."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from one_rank import assert_same, epochs_of, last, run
from test_worker_fit import OWN_CODE, elastic

from mlstack.errors import ConfigError
from mlstack.records import base
from mlstack.records.run import SPEC, RunSpec, Started, Stopped, read_events

Plan = Callable[..., Path]
Start = Callable[..., "subprocess.Popen[str]"]

pytestmark = pytest.mark.filterwarnings("ignore")

READERS = """
import torch
from own_code import Augmented, Images, Stubborn

class Sized(Augmented):
    def train_dataloader(self):
        return torch.utils.data.DataLoader(self.parts["train"], 7, shuffle=True)

class Several(Augmented):
    def train_dataloader(self):
        few = torch.utils.data.Subset(self.parts["train"], range(48))
        short = torch.utils.data.DataLoader(few, 16, shuffle=True)
        return {"long": super().train_dataloader(), "short": short}

class Working(Augmented):
    def train_dataloader(self):
        train = self.parts["train"]
        return torch.utils.data.DataLoader(train, self.batch_size, shuffle=True, num_workers=2)

class Weighted(Augmented):
    def train_dataloader(self):
        train = self.parts["train"]
        chosen = torch.utils.data.WeightedRandomSampler(torch.arange(1.0, len(train) + 1), 160)
        return torch.utils.data.DataLoader(train, self.batch_size, sampler=chosen)

class Stream(torch.utils.data.IterableDataset):
    def __init__(self, inner):
        self.inner = inner
    def __iter__(self):
        return (self.inner[index] for index in range(len(self.inner)))

class Streamed(Images):
    def train_dataloader(self):
        return torch.utils.data.DataLoader(Stream(self.parts["train"]), self.batch_size)

class Taking(Stubborn):
    def training_step(self, batch, batch_idx):
        if isinstance(batch, dict):
            batch = [torch.cat(both) for both in zip(batch["long"], batch["short"])]
        return super().training_step(batch, batch_idx)

class Pair(Stubborn):
    def __init__(self, **rest):
        super().__init__(**rest)
        self.automatic_optimization = False
        self.second = torch.nn.Linear(256, 10)
    def training_step(self, batch, batch_idx):
        pixels, targets = batch[0].flatten(1).float() / 255, batch[1]
        first, second = self.optimizers()
        for one, logits in ((first, self(batch[0])), (second, self.second(pixels))):
            loss = torch.nn.functional.cross_entropy(logits, targets)
            one.zero_grad()
            self.manual_backward(loss)
            one.step()
    def configure_optimizers(self):
        second = torch.optim.SGD(self.second.parameters(), 0.1)
        return [torch.optim.Adam(self.body.parameters()), second]
"""


@pytest.fixture(scope="module")
def readers(plan: Plan) -> tuple[str, ...]:
    """Settings of a random model, for data modules that read in ways of their own."""
    root = Path(base.read(plan("where-readers") / SPEC, RunSpec).root)
    (root / "own_code.py").write_text(OWN_CODE)
    (root / "readers.py").write_text(READERS)
    return ("model.class=readers:Taking", "train.batch_size=16", "train.epochs=3")


@pytest.mark.parametrize(
    ("data", "stop_at"),
    [("Sized", 30), ("Several", 17), ("Working", 13), ("Weighted", 13), ("Streamed", 13)],
)
def test_a_run_goes_on_to_the_very_same_weights_however_its_data_is_read(
    plan: Plan, readers: tuple[str, ...], data: str, stop_at: int
) -> None:
    sets = (*readers, f"data.module=readers:{data}", "train.epochs=3")
    whole = plan(f"whole-{data}", *sets)
    broken = plan(f"broken-{data}", *sets, f"model.args.stop_at={stop_at}")

    run(whole)
    run(broken)
    stopped = last(broken, Stopped)
    run(broken, resume=True)

    assert stopped.step == stop_at + 1
    assert_same(broken, whole)
    assert epochs_of(broken) == epochs_of(whole)


@pytest.mark.parametrize(
    ("own", "stop_at", "goes_on_at"),
    [("data.module=readers:Working", 13, 15), ("model.class=readers:Pair", 26, 30)],
    ids=["processes read", "two optimizers, stepped by hand"],
)
def test_two_ranks_go_on_to_the_very_same_weights(
    plan: Plan, readers: tuple[str, ...], start: Start, own: str, stop_at: int, goes_on_at: int
) -> None:
    sets = (*readers, own, "train.ranks=2", "train.epochs=2")
    whole = plan(f"whole-two-{stop_at}", *sets)
    broken = plan(f"broken-two-{stop_at}", *sets, f"model.args.stop_at={stop_at}")

    for folder, arguments in ((whole, ()), (broken, ()), (broken, ("--resume",))):
        ranks = [start(folder, *arguments, **elastic(number, 2)) for number in range(2)]
        outputs = [process.communicate(timeout=120)[0] for process in ranks]
        assert [process.returncode for process in ranks] == [0, 0], outputs

    assert_same(broken, whole)
    assert [e.step for e in read_events(broken) if isinstance(e, Started)] == [0, goes_on_at]


def test_a_model_that_steps_by_hand_has_no_parts_of_a_batch(
    plan: Plan, readers: tuple[str, ...]
) -> None:
    folder = plan("pair-in-parts", *readers, "model.class=readers:Pair", "train.accumulate=2")

    with pytest.raises(ConfigError, match=r"train\.accumulate: the model optimizes by hand"):
        run(folder)
