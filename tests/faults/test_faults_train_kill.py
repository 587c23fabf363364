"""Training under kill -9: whatever moment it is, the end is that of the unbroken run, to the bit.

`make test` kills each a few times; `make soak` does it 50 times (`MLSTACK_KILLS`).
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from faulty import mlstack
from projects import make_project

from mlstack.records.layout import Layout
from mlstack.records.run import run_ids

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("MLSTACK_KILLS", "2"))
WORDS = ("train", "--no-check", "--epochs", "8", "--batch-size", "16", "--json")


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("train") / "demo", images=240)


@pytest.fixture(params=[1, 2, 4] if KILLS > 2 else [1, 2])
def unbroken(start, tmp_path, request):
    """A project, what to type, and what the unbroken run came to."""
    project = tmp_path / "demo"
    shutil.copytree(start, project)
    words = (*WORDS, "--ranks", str(request.param))
    began = time.monotonic()
    done = mlstack(project, *words)
    assert done.returncode == 0, done.stderr
    return project, words, result(project, done.stdout), time.monotonic() - began


def result(project: Path, said: str):
    """Give the metrics that were said, and every weight of the newest run."""
    folder = Layout(project).run(run_ids(Layout(project).runs)[-1])
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=False)["state_dict"]
    weights = {name: tensor.numpy().tobytes() for name, tensor in state.items()}
    return json.loads(said)["metrics"], weights


def kill_in(project: Path, words: tuple[str, ...], chance: random.Random, took_s: float) -> bool:
    """Start a command and kill it, or one of its ranks, at a random moment; was it alive then?"""
    process = subprocess.Popen(
        [sys.executable, "-m", "mlstack", *words],
        cwd=project,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        process.wait(chance.uniform(0.3, took_s))
    except subprocess.TimeoutExpired:
        try:
            ranks = psutil.Process(process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return False
        if chance.random() < 0.5:  # asked to stop first: in the middle of an epoch, and of saving
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(chance.uniform(0, 2))
        victim = chance.choice([process, process, *ranks])  # the command itself most often
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim.pid, signal.SIGKILL)
        process.wait(60)
        _, alive = psutil.wait_procs(ranks, timeout=30)
        assert not alive, "a rank outlived its command"
        return True
    return False


def test_a_killed_training_ends_where_the_unbroken_one_did(unbroken):
    project, words, wanted, took_s = unbroken
    chance = random.Random(len(words[-1]) + int(words[-1]))
    hits = 0
    while hits < KILLS:
        before = run_ids(Layout(project).runs)
        hits += kill_in(project, words, chance, took_s)
        if run_ids(Layout(project).runs) == before:
            continue  # before there was a run
        resume = ("train", "--resume", "--json")
        while hits < KILLS and chance.random() < 0.5:
            hits += kill_in(project, resume, chance, took_s)

        done = mlstack(project, *resume)

        if done.returncode:  # it had finished before it was hit
            assert "no run that was cut short" in done.stdout, done.stdout
            continue
        assert result(project, done.stdout) == wanted
