"""`train --check` finds the faults that are planted here, and passes a sound model."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlstack.config.schema import Config
from mlstack.records import base
from mlstack.records.layout import Layout
from mlstack.records.run import SPEC, Checked, Finished, RunSpec, Started, read_events
from mlstack.train.worker.check import check
from mlstack.train.worker.ranks import Job, Rank
from mlstack.train.worker.stop import StopRequest

Plan = Callable[..., Path]

pytestmark = pytest.mark.filterwarnings("ignore")

FAULTS = """
import torch
from my_project.data import Images
from my_project.model import Net

class ByHand(Net):
    def __init__(self, **given):
        super().__init__(**given)
        self.automatic_optimization = False
    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        optimizer.step()

class Detached(Net):
    def forward(self, images):
        x = images.permute(0, 3, 1, 2).float() / 255
        x = self.body[:2](x).detach()
        return self.body[2:](x)

class Forgotten(Net):
    def configure_optimizers(self):
        return torch.optim.AdamW(self.body[2:].parameters(), lr=self.lr)

class Blind(Net):
    def forward(self, images):
        return super().forward(torch.full_like(images, 7))

class Misshapen(Net):
    def forward(self, images):
        return super().forward(images.permute(0, 3, 1, 2))

class Forgetful(Net):
    def __init__(self, **given):
        super().__init__(**given)
        self.shift = torch.randn(1)
    def forward(self, images):
        return super().forward(images) + self.shift * torch.arange(10)

class Unscaled(Net):
    def forward(self, images):
        return super().forward(images) * 300

class Softmaxed(Net):
    def forward(self, images):
        return super().forward(images).softmax(dim=1)

class Mixed(Net):
    def forward(self, images):
        logits = super().forward(images)
        return logits.T.reshape(logits.shape)

class Cropped(Net):
    def forward(self, images):
        return super().forward(torch.cat([images[:, :6], torch.zeros_like(images[:, 6:])], dim=1))

class Huge(Net):
    def training_step(self, batch, number):
        torch.empty(1 << 50)
        return super().training_step(batch, number)

class NotANumber(Net):
    def training_step(self, batch, number):
        return super().training_step(batch, number) * float("nan")

class Doubled(Net):
    def training_step(self, batch, number):
        shares = self(batch[0]).softmax(dim=1)
        return torch.nn.functional.cross_entropy(shares, batch[1])

class Squashed(Net):
    def forward(self, images):
        return super().forward(images).sigmoid()

class Rectified(Net):
    def forward(self, images):
        return super().forward(images).relu()

class LeftInEval(Net):
    def __init__(self, **given):
        super().__init__(**given)
        self.body.eval()

class TrainsInVal(Net):
    def validation_step(self, batch, number):
        self.train()
        return super().validation_step(batch, number)

class AddsUp(Net):
    def optimizer_zero_grad(self, *given):
        pass

class Elsewhere(Net):
    def training_step(self, batch, number):
        return super().training_step([batch[0], batch[1].roll(1)], number)

class Turned(Net):
    def training_step(self, batch, number):
        return -super().training_step(batch, number)

class AllFrozen(Net):
    def __init__(self, **given):
        super().__init__(**given)
        self.requires_grad_(False)

class Twice(Net):
    def training_step(self, batch, number):
        loss = super().training_step(batch, number)
        loss.backward()
        return loss

class AsNumber(Net):
    def training_step(self, batch, number):
        return super().training_step(batch, number).item()

class Halted(Net):
    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        never = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0)
        return [optimizer], [{"scheduler": never, "interval": "step"}]

class Patient(Net):
    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        slowly = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, step / 1000))
        return [optimizer], [{"scheduler": slowly, "interval": "step"}]

class Plain(Net):
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)

class HeadOnly(Net):
    def __init__(self, **given):
        super().__init__(**given)
        self.body[:5].requires_grad_(False)

class StillNorms(Net):
    def train(self, mode=True):
        super().train(mode)
        for module in self.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
        return self

class Added(Net):
    def training_step(self, batch, number):
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1], reduction="sum")

class InPlace(Net):
    def training_step(self, batch, number):
        loss = super().training_step(batch, number)
        batch[0].zero_()
        return loss

class Searching(Net):
    def _body(self, channels, width, num_classes):
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, num_classes))
    def configure_optimizers(self):
        return torch.optim.LBFGS(self.parameters(), lr=0.5)

class OfOneRank(Net):
    def log_dict(self, metrics, sync_dist=False, **given):
        super().log_dict(metrics, **given, reduce_fx="sum")

class WithoutSync(Net):
    def log_dict(self, metrics, sync_dist=False, **given):
        super().log_dict(metrics, **given, reduce_fx="avg")

class Changed(Images):
    def change(self, images, targets, part):
        return images, targets
    def setup(self, stage=None):
        super().setup(stage)
        torch.manual_seed(1)
        for part, data in self.parts.items():
            data.tensors = self.change(*data.tensors, part)

class Shuffled(Changed):
    def change(self, images, targets, part):
        return images, targets[torch.randperm(len(targets))]

class GivenAway(Changed):
    def change(self, images, targets, part):
        images[:, 0, 0, 0] = targets.to(torch.uint8)
        return images, targets

class ShiftedVal(Changed):
    def change(self, images, targets, part):
        return images, (targets + 1) % 10 if part == "val" else targets

class Untaught(Changed):
    def change(self, images, targets, part):
        kept = (targets != 3) | torch.tensor(part != "train")
        return images[kept], targets[kept]

class OneClass(Changed):
    def change(self, images, targets, part):
        kept = (targets == 3) | torch.tensor(part != "train")
        return images[kept], targets[kept]

class Floating(Changed):
    def change(self, images, targets, part):
        return images, targets.float()

class Blank(Changed):
    def change(self, images, targets, part):
        return torch.zeros_like(images), targets

class Holey(Changed):
    def change(self, images, targets, part):
        images = images.float()
        images[3] = float("nan")
        return images, targets

class Dimmed(Changed):
    def change(self, images, targets, part):
        return (images // 20 if part == "val" else images), targets

class Sorted(Changed):
    def change(self, images, targets, part):
        order = targets.argsort()
        return images[order], targets[order]
    def train_dataloader(self):
        return torch.utils.data.DataLoader(self.parts["train"], self.batch_size)

class Shared(Changed):
    def setup(self, stage=None):
        super().setup(stage)
        self.parts["val"] = self.parts["train"]

def noisy(rows):
    images, targets = torch.utils.data.default_collate(rows)
    return images + torch.randint(0, 3, images.shape, dtype=torch.uint8), targets

class Restless(Images):
    def val_dataloader(self):
        return torch.utils.data.DataLoader(self.parts["val"], 64, collate_fn=noisy)

def sleepy(rows):
    import time
    time.sleep(1)
    return torch.utils.data.default_collate(rows)

class Sleepy(Images):
    def train_dataloader(self):
        return torch.utils.data.DataLoader(
            self.parts["train"], self.batch_size, shuffle=True, collate_fn=sleepy
        )

class Shifted(Images):
    def setup(self, stage=None):
        super().setup(stage)
        for part in self.parts.values():
            part.tensors = (part.tensors[0], part.tensors[1] + 1)
"""

NAMES = [
    "data loads",
    "batches are mixed",
    "train holds what val asks for",
    "parts share no example",
    "parts are scaled alike",
    "val is the same each time",
    "a step runs",
    "memory",
    "loss at the start",
    "gradients reach every parameter",
    "gradients are cleared",
    "dropout and BatchNorm know when it trains",
    "overfits one batch",
    "outputs are logits",
    "learns the targets",
    "validation logs the monitored metric",
    "output depends on the input",
    "a checkpoint gives the same outputs",
    "examples do not mix",
    "inputs are used",
    "labels fit the inputs",
    "loading keeps up",
]


MODES = "dropout and BatchNorm know when it trains"


def test_a_model_that_optimizes_by_hand_passes_what_can_be_asked_without_its_loss(
    plan: Plan,
) -> None:
    folder = plan("by-hand", "model.class=faults:ByHand", mode="check")
    (Path(base.read(folder / SPEC, RunSpec).root) / "faults.py").write_text(FAULTS)

    verdicts = checks(folder)

    unasked = {
        "loss at the start",
        "overfits one batch",
        "outputs are logits",
        "learns the targets",
    }
    assert [v.name for v in verdicts] == [name for name in NAMES if name not in unasked]
    assert [v for v in verdicts if not v.passed] == []
    assert verdicts[6].detail.startswith("40 steps")


def test_a_sound_model_passes_every_check(plan: Plan) -> None:
    folder = plan("sound", mode="check")

    events = run(folder)

    assert isinstance(events[0], Started) and isinstance(events[-1], Finished)
    verdicts = [e for e in events if isinstance(e, Checked)]
    assert [v.name for v in verdicts] == NAMES
    assert [v for v in verdicts if not v.passed] == []
    assert "uint8 64 x 16 x 16 x 1" in verdicts[0].detail
    assert list((folder / "checkpoints").iterdir()) == []


@pytest.mark.parametrize(
    ("setting", "check_name", "words"),
    [
        ("model.class=faults:Detached", "gradients reach every parameter", "`body.0.0.weight`"),
        ("model.class=faults:Forgotten", "gradients reach every parameter", "did not change"),
        ("model.class=faults:Blind", "output depends on the input", "the same output"),
        ("model.class=faults:Misshapen", "a step runs", "RuntimeError"),
        ("model.class=faults:Forgetful", "a checkpoint gives the same outputs", "differ after"),
        ("model.class=faults:Unscaled", "loss at the start", "costs 2.303"),
        ("model.class=faults:Softmaxed", "outputs are logits", "takes them for logits"),
        ("model.class=faults:Mixed", "examples do not mix", "moves the outputs of the rest"),
        ("model.class=faults:Cropped", "inputs are used", "change nothing"),
        ("model.class=faults:Huge", "memory", "a batch of 64 does not fit"),
        ("model.class=faults:NotANumber", "loss at the start", "not a number"),
        ("model.class=faults:Doubled", "outputs are logits", "a softmax before cross-entropy"),
        ("model.class=faults:Squashed", "outputs are logits", "numbers from 0 to 1"),
        ("model.class=faults:Rectified", "outputs are logits", "ends in a ReLU"),
        ("model.class=faults:LeftInEval", MODES, "is in eval mode while it trains"),
        ("model.class=faults:TrainsInVal", MODES, "trains while it validates"),
        ("model.class=faults:AddsUp", "gradients are cleared", "were added up"),
        ("model.class=faults:Elsewhere", "learns the targets", "guessing gives 50%"),
        ("model.class=faults:Turned", "loss at the start", "-2."),
        ("model.class=faults:AllFrozen", "a step runs", "does not require grad"),
        ("model.class=faults:Twice", "a step runs", "a second time"),
        ("model.class=faults:AsNumber", "a step runs", "must return a Tensor"),
        ("model.class=faults:Halted", "gradients reach every parameter", "did not change"),
        ("model.args.lr=0.5", "overfits one batch", "the first one changed the weights by"),
        ("data.module=faults:ShiftedVal", "labels fit the inputs", "of val; that is guess"),
        ("data.module=faults:Untaught", "train holds what val asks for", "class 3 of val"),
        ("data.module=faults:OneClass", "train holds what val asks for", "and 7 more of val"),
        ("data.module=faults:Floating", "a step runs", "got Float"),
        ("model.args.lr=1000000.0", "overfits one batch", "loss 2."),
        ("model.args.lr=1e-9", "overfits one batch", "loss 2."),
        ("train.monitor=val/accuracy", "validation logs the monitored metric", "val/acc"),
        ("data.module=faults:Shifted", "data loads", "targets go from 1 to 10"),
        ("data.module=faults:Holey", "data loads", "NaN"),
        ("data.module=faults:Blank", "batches are mixed", "all examples are equal"),
        ("data.module=faults:Sorted", "batches are mixed", "at random it would hold"),
        ("data.module=faults:Shared", "parts share no example", "are in train too"),
        ("data.module=faults:Dimmed", "parts are scaled alike", "deviation"),
        ("data.module=faults:Restless", "val is the same each time", "differs between two passes"),
        ("data.module=faults:Shuffled", "labels fit the inputs", "that is guessing"),
        ("data.module=faults:GivenAway", "labels fit the inputs", "value 0 of the input alone"),
        ("data.module=faults:Sleepy", "loading keeps up", "ms to load a batch"),
    ],
)
def test_a_planted_fault_is_named_with_a_hint(
    plan: Plan, tmp_path: Path, setting: str, check_name: str, words: str
) -> None:
    sets = (setting, "train.batch_size=16") if setting.endswith("Sorted") else (setting,)
    folder = plan(tmp_path.name, *sets, mode="check")
    root = Path(base.read(folder / SPEC, RunSpec).root)
    (root / "faults.py").write_text(FAULTS)

    failed = {e.name: e for e in run(folder) if isinstance(e, Checked) and not e.passed}

    assert words in failed[check_name].detail
    assert failed[check_name].hint


@pytest.mark.parametrize(
    "name", ["Patient", "Plain", "HeadOnly", "StillNorms", "Added", "InPlace", "Searching"]
)
def test_a_sensible_model_raises_no_alarm(plan: Plan, tmp_path: Path, name: str) -> None:
    folder = plan(tmp_path.name, f"model.class=faults:{name}", mode="check")
    (Path(base.read(folder / SPEC, RunSpec).root) / "faults.py").write_text(FAULTS)

    failed = [e for e in run(folder) if isinstance(e, Checked) and not e.passed]

    assert failed == []


@pytest.mark.parametrize(
    ("name", "ranks"), [("OfOneRank", 1), ("OfOneRank", 2), ("WithoutSync", 2)]
)
def test_a_metric_of_one_rank_is_named_where_there_are_several(
    plan: Plan, name: str, ranks: int
) -> None:
    key = f"of-one-{name}-{ranks}"
    folder = plan(key, f"model.class=faults:{name}", mode="check", ranks=ranks)
    (Path(base.read(folder / SPEC, RunSpec).root) / "faults.py").write_text(FAULTS)

    failed = {e.name: e for e in run(folder) if isinstance(e, Checked) and not e.passed}

    is_wrong = (name, ranks) == ("OfOneRank", 2)
    assert list(failed) == ["validation logs the monitored metric"][:is_wrong]
    assert all("sync_dist=True" in one.hint for one in failed.values())


def test_a_learning_rate_that_hardly_moves_the_weights_is_to_be_raised(plan: Plan) -> None:
    folder = plan("hardly", "model.args.lr=1e-7", mode="check")

    (failed,) = [e for e in run(folder) if isinstance(e, Checked) and not e.passed]

    assert failed.name == "overfits one batch" and failed.hint.startswith("raise the")


def test_a_network_that_the_learning_rate_killed_is_not_told_to_read_its_input(
    plan: Plan,
) -> None:
    folder = plan("killed", "model.args.lr=100.0", mode="check")

    failed = {e.name: e for e in run(folder) if isinstance(e, Checked) and not e.passed}

    assert "lower the learning rate" in failed["output depends on the input"].hint
    assert "inputs are used" not in failed


def run(folder: Path) -> list[object]:
    """Check in this process, which has loaded Lightning already."""
    spec = base.read(folder / SPEC, RunSpec)
    check(Job(folder, spec, Config.model_validate(spec.config), Rank()), StopRequest())
    return list(read_events(folder))


def checks(folder: Path) -> list[Checked]:
    """Give the verdicts of a check."""
    return [one for one in run(folder) if isinstance(one, Checked)]


@pytest.mark.parametrize("preset", ["basic", "strong"])
def test_augmented_examples_are_drawn(plan: Plan, preset: str) -> None:
    folder = plan(f"drawn-{preset}", f"data.augment={preset}")

    (drawn,) = [one for one in checks(folder) if one.name == "augmented examples"]

    assert drawn.passed and preset in drawn.detail
    root = Path(base.read(folder / SPEC, RunSpec).root)
    with Image.open(Layout(root).augmented) as sheet:
        assert sheet.size == (10 * 84 + 12, 8 * 84)
        cells = np.asarray(sheet)
        first, second = cells[:80, :80], cells[:80, 96:176]
        assert first.std() > 10 and not np.array_equal(first, second)


def test_an_augmentation_that_does_nothing_is_named(plan: Plan) -> None:
    folder = plan("drawn-idle", "data.augment=idle_augment:same")
    root = Path(base.read(folder / SPEC, RunSpec).root)
    (root / "idle_augment.py").write_text("def same(images):\n    return images\n")

    (drawn,) = [one for one in checks(folder) if one.name == "augmented examples"]

    assert not drawn.passed and drawn.hint
