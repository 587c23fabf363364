"""Ranks that are forked from one warm process train what ranks that start alone do."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch

from mlstack.errors import StepError
from mlstack.launch.ranks import FORKSERVER_LOG, Program
from mlstack.launch.supervise import WORKER, supervise
from mlstack.records import base
from mlstack.records.run import SPEC, EpochEnded, Finished, RunSpec

Plan = Callable[..., Path]

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

PLAIN = Program(WORKER.module)


def train(folder: Path, program: Program = WORKER, *, resume: bool = False) -> list[object]:
    spec = base.read(folder / SPEC, RunSpec)
    return list(supervise(folder, spec, resume=resume, program=program))


def outcome(folder: Path, events: list[object]) -> tuple[dict[str, float], dict[str, bytes]]:
    finished = events[-1]
    assert isinstance(finished, Finished)
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return finished.metrics, {name: tensor.numpy().tobytes() for name, tensor in state.items()}


def test_forked_ranks_train_to_the_bits_of_plain_ones_also_after_their_server_was_killed(
    plan: Plan,
) -> None:
    epochs = "train.epochs=8"  # of a tenth of a second: one is going on when the kill comes
    plain, warm, broken = (plan(name, epochs, ranks=2) for name in ("plain", "warm", "broken"))

    wanted = outcome(plain, train(plain, PLAIN))
    found = outcome(warm, train(warm))
    stream = supervise(broken, base.read(broken / SPEC, RunSpec), resume=False, program=WORKER)
    ranks: list[psutil.Process] = []
    with pytest.raises(StepError, match="the process that starts the ranks was killed"):
        for event in stream:
            if isinstance(event, EpochEnded) and not ranks:  # more may be on their way
                (server,) = psutil.Process().children()
                ranks = server.children()
                os.kill(server.pid, signal.SIGKILL)
    _, orphans = psutil.wait_procs(ranks, timeout=5)
    resumed = outcome(broken, train(broken, resume=True))

    assert (warm / "logs" / FORKSERVER_LOG).read_text() == ""  # nothing was in the way of a fork
    assert not (plain / "logs" / FORKSERVER_LOG).exists()
    assert len(ranks) == 2
    assert not orphans
    assert found == wanted
    assert resumed == wanted
