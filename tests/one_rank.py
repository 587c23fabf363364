"""A run of one rank in the process of the test, which has loaded Lightning already."""

from pathlib import Path

import torch

from mlstack.records import base
from mlstack.records.run import (
    BEST,
    CHECKPOINTS,
    LAST,
    SPEC,
    EpochEnded,
    RunEvent,
    RunSpec,
    read_events,
)
from mlstack.train.worker import job
from mlstack.train.worker.stop import StopRequest


def run(folder: Path, *, resume: bool = False) -> None:
    """Run one rank in this process, which has loaded Lightning already."""
    stop = StopRequest()
    stop.install()
    job.run(folder, base.read(folder / SPEC, RunSpec), stop, resume=resume)


def last(folder: Path, kind: type) -> RunEvent:
    """Give the last event, which must be of one kind."""
    event = read_events(folder)[-1]
    assert isinstance(event, kind), event
    return event


def epochs_of(folder: Path) -> list[tuple[int, dict[str, float], bool]]:
    """Give what was reported of each epoch, in a run that was broken off or not."""
    events = read_events(folder)
    return [(e.epoch, e.metrics, e.best) for e in events if isinstance(e, EpochEnded)]


def assert_same(mine: Path, theirs: Path) -> None:
    """Compare weights and the optimizer bit by bit."""
    for name in (LAST, BEST):
        a, b = (torch.load(f / CHECKPOINTS / name, weights_only=True) for f in (mine, theirs))
        for key, tensor in a["state_dict"].items():
            assert torch.equal(tensor, b["state_dict"][key]), (name, key)
        assert _said(a.get("optimizer_states")) == _said(b.get("optimizer_states"))
        assert str(a.get("lr_schedulers")) == str(b.get("lr_schedulers"))


def _said(state: object) -> str:
    """Write a state; a network in parts is gone on with tuples that have become lists."""
    return str(state).replace("(", "[").replace(")", "]")
