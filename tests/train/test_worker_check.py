"""`train --check` finds the faults that are planted here, and passes a sound model."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mlstack.config.schema import Config
from mlstack.records import base
from mlstack.records.run import SPEC, Checked, Finished, RunSpec, Started, read_events
from mlstack.train.worker.build import Job
from mlstack.train.worker.check import check
from mlstack.train.worker.ranks import Rank

Plan = Callable[..., Path]

pytestmark = pytest.mark.filterwarnings("ignore")

FAULTS = """
import torch
from my_project.data import Images
from my_project.model import Net

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

class Shifted(Images):
    def setup(self, stage=None):
        super().setup(stage)
        for part in self.parts.values():
            part.tensors = (part.tensors[0], part.tensors[1] + 1)
"""

NAMES = [
    "data loads",
    "a step runs",
    "loss at the start",
    "gradients reach every parameter",
    "overfits one batch",
    "validation logs the monitored metric",
    "output depends on the input",
    "a checkpoint gives the same outputs",
]


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
        ("model.class=faults:Detached", NAMES[3], "`body.0.0.weight`"),
        ("model.class=faults:Forgotten", NAMES[3], "did not change"),
        ("model.class=faults:Blind", NAMES[6], "the same output"),
        ("model.class=faults:Misshapen", NAMES[1], "RuntimeError"),
        ("model.class=faults:Forgetful", NAMES[7], "differ after loading"),
        ("model.class=faults:Unscaled", NAMES[2], "costs 2.303"),
        ("data.module=faults:Shifted", NAMES[0], "targets go from 1 to 10"),
        ("model.args.lr=1000000.0", NAMES[4], "loss 2."),
        ("train.monitor=val/accuracy", NAMES[5], "val/acc"),
    ],
)
def test_a_planted_fault_is_named_with_a_hint(
    plan: Plan, tmp_path: Path, setting: str, check_name: str, words: str
) -> None:
    folder = plan(tmp_path.name, setting, mode="check")
    root = Path(base.read(folder / SPEC, RunSpec).root)
    (root / "faults.py").write_text(FAULTS)

    failed = {e.name: e for e in run(folder) if isinstance(e, Checked) and not e.passed}

    assert words in failed[check_name].detail
    assert failed[check_name].hint


def run(folder: Path) -> list[object]:
    """Check in this process, which has loaded Lightning already."""
    spec = base.read(folder / SPEC, RunSpec)
    check(Job(folder, spec, Config.model_validate(spec.config), Rank()))
    return list(read_events(folder))
