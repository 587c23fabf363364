"""A network in parts: the same training, the same files, gone on with to the bit."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from one_rank import assert_same, epochs_of, last
from test_worker_fit import elastic

from mlstack.config.schema import Config
from mlstack.errors import ConfigError, MachineError
from mlstack.records import base
from mlstack.records.run import BEST, CHECKPOINTS, SPEC, Finished, RunSpec, Stopped
from mlstack.train.worker import strategy
from mlstack.train.worker.build import build_model
from mlstack.train.worker.ranks import Job, Rank

Plan = Callable[..., Path]
Start = Callable[..., Any]

pytestmark = pytest.mark.filterwarnings("ignore")

DEEP = """
import os, signal
from torch import nn
from my_project.model import Net

class Block(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm = nn.GroupNorm(2, outputs)
    def forward(self, x):
        return self.norm(self.conv(x)).relu()

class Deep(Net):
    def __init__(self, stop_at=-1, **rest):
        super().__init__(**rest)
        self.stop_at = stop_at
        self.body = nn.Sequential(
            Block(1, 8), Block(8, 8), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.2),
            nn.Linear(32, 10)
        )
    def on_train_batch_start(self, batch, batch_idx):
        if self.global_step == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
"""
SETS = ("model.class=deep:Deep", "model.args={}", "train.batch_size=16", "train.ranks=2")


@pytest.fixture(scope="module")
def lay_out(plan: Plan) -> Plan:
    """Give a function that lays out a run of a network of blocks."""
    root = Path(base.read(plan("where-strategy") / SPEC, RunSpec).root)
    (root / "deep.py").write_text(DEEP)
    return lambda name, *sets: plan(name, *SETS, *sets)


def on_two_ranks(start: Start, folder: Path, *arguments: str) -> None:
    on_ranks(2, start, folder, *arguments)


def on_ranks(count: int, start: Start, folder: Path, *arguments: str) -> None:
    ranks = [start(folder, *arguments, **elastic(number, count)) for number in range(count)]
    outputs = [process.communicate(timeout=200)[0] for process in ranks]
    assert [process.returncode for process in ranks] == [0] * count, outputs


@pytest.mark.slow
def test_parts_train_as_copies_do_and_leave_the_same_files(lay_out: Plan, start: Start) -> None:
    copies, parts = lay_out("copies"), lay_out("in-parts", "train.strategy=fsdp")

    on_two_ranks(start, copies)
    on_two_ranks(start, parts)

    mine, theirs = last(parts, Finished).metrics, last(copies, Finished).metrics
    assert mine == {name: pytest.approx(value, abs=1e-4) for name, value in theirs.items()}
    states = [
        torch.load(folder / CHECKPOINTS / BEST, weights_only=True)["state_dict"]
        for folder in (parts, copies)
    ]
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        assert type(tensor) is torch.Tensor
        assert torch.allclose(tensor, states[1][name], atol=1e-3), name


@pytest.mark.slow
def test_a_network_in_parts_goes_on_to_the_very_same_weights(lay_out: Plan, start: Start) -> None:
    whole = lay_out("parts-whole", "train.strategy=fsdp", "train.checkpoint_activations=true")
    broken = lay_out(
        "parts-broken",
        "train.strategy=fsdp",
        "train.checkpoint_activations=true",
        "model.args.stop_at=13",
    )

    on_two_ranks(start, whole)
    on_two_ranks(start, broken)
    stopped = last(broken, Stopped)
    on_two_ranks(start, broken, "--resume")

    assert 13 < stopped.step < 20
    assert_same(broken, whole)
    assert epochs_of(broken) == epochs_of(whole)
    assert last(broken, Finished).metrics == last(whole, Finished).metrics


@pytest.mark.slow
def test_four_ranks_go_on_to_the_very_same_weights(lay_out: Plan, start: Start) -> None:
    whole = lay_out("four-whole", "train.ranks=4")
    broken = lay_out("four-broken", "train.ranks=4", "model.args.stop_at=13")

    on_ranks(4, start, whole)
    on_ranks(4, start, broken)
    stopped = last(broken, Stopped)
    on_ranks(4, start, broken, "--resume")

    assert 13 < stopped.step < 20
    assert_same(broken, whole)
    assert epochs_of(broken) == epochs_of(whole)


def job_of(folder: Path, rank: Rank) -> Job:
    spec = base.read(folder / SPEC, RunSpec)
    return Job(folder, spec, Config.model_validate(spec.config), rank)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Give a function that sets the main memory of the machine, in bytes."""

    def set_to(total: float) -> None:
        found = SimpleNamespace(total=total, available=total)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: found)

    return set_to


def test_what_does_not_fit_is_shared_and_what_never_fits_says_how_much_is_missing(
    lay_out: Plan, memory: Callable[[float], None]
) -> None:
    folder = lay_out("sizes")
    one, two, four = (job_of(folder, Rank(0, count, count)) for count in (1, 2, 4))
    model = build_model(one)
    need = 16 * sum(p.numel() for p in model.parameters())

    memory(4 * need / strategy.ROOM)
    fits = [strategy.is_sharded(job, model) for job in (one, two, four)]
    memory(need / strategy.ROOM / 2)  # a half of it for each of two ranks
    with pytest.raises(MachineError, match=r"take .* GB; .* are missing") as raised:
        strategy.is_sharded(two, model)

    assert fits == [False, False, False]
    assert "fsdp" in raised.value.hint


def test_a_share_of_the_network_may_fit_where_all_of_it_does_not(
    lay_out: Plan, memory: Callable[[float], None]
) -> None:
    model = build_model(job_of(lay_out("auto"), Rank()))
    need = 16 * sum(p.numel() for p in model.parameters())
    memory(2 * 0.6 * need / strategy.ROOM)  # six tenths of it for each of two ranks

    assert strategy.is_sharded(job_of(lay_out("auto-two"), Rank(0, 2, 2)), model)
    with pytest.raises(MachineError):
        strategy.is_sharded(job_of(lay_out("ddp", "train.strategy=ddp"), Rank(0, 2, 2)), model)


def test_an_average_of_parts_is_refused(lay_out: Plan) -> None:
    job = job_of(lay_out("no-ema", "train.strategy=fsdp", "train.ema=0.9"), Rank(0, 2, 2))

    with pytest.raises(ConfigError, match=r"train\.ema: an average"):
        strategy.is_sharded(job, build_model(job))
