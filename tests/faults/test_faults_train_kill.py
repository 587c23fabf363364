"""Training under kill -9: whatever moment it is, the end is that of the unbroken run, to the bit.

`make test` kills each a few times; `make soak` does it 50 times (`MLSTACK_KILLS`). A kill counts
when steps had been made and the run was not over: a small training is imports for most of its life.
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
from collections import Counter
from pathlib import Path

import psutil
import pytest
import torch
from faulty import mlstack
from projects import make_project

from mlstack.records.layout import Layout
from mlstack.records.run import (
    EpochEnded,
    Finished,
    Started,
    Stepped,
    read_events,
    run_ids,
)

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("MLSTACK_KILLS", "2"))
EPOCHS = "40" if KILLS > 2 else "12"
EARLY = 0.2  # of the kills: at any moment, most likely before the first step
WORDS = ("train", "--no-check", "--epochs", EPOCHS, "--batch-size", "16", "--json")


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("train") / "demo", images=240)


@pytest.fixture(params=[1, 2, 4] if KILLS > 2 else [1, 2])
def unbroken(start, tmp_path, request):
    """A project, what to type, and what the unbroken run came to."""
    project = tmp_path / "demo"
    shutil.copytree(start, project)
    words = (*WORDS, "--ranks", str(request.param))
    done = mlstack(project, *words)
    assert done.returncode == 0, done.stderr
    events = read_events(newest(project))
    trained_s = events[-1].at - next(one for one in events if isinstance(one, Started)).at
    return project, words, result(project, done.stdout), trained_s


def newest(project: Path) -> Path:
    return Layout(project).run(run_ids(Layout(project).runs)[-1])


def is_at_it(project: Path) -> bool:
    """Tell whether the newest run has made a step since it was begun or gone on with."""
    steps = 0
    for event in read_events(newest(project)):
        if isinstance(event, Started | Finished):
            steps = 0
        steps += isinstance(event, Stepped | EpochEnded)
    return steps > 0


def result(project: Path, said: str):
    """Give the metrics that were said, and every weight of the newest run."""
    state = torch.load(newest(project) / "checkpoints" / "last.ckpt", weights_only=False)[
        "state_dict"
    ]
    weights = {name: tensor.numpy().tobytes() for name, tensor in state.items()}
    return json.loads(said)["metrics"], weights


def kill_in(
    project: Path, words: tuple[str, ...], chance: random.Random, trained_s: float
) -> str | None:
    """Start a command and kill it, or one of its ranks, at a random moment; say what was hit."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mlstack", *words],
        cwd=project,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    before = run_ids(Layout(project).runs)
    wait_s = chance.uniform(0.3, 3)
    if chance.random() > EARLY:
        new = "--resume" not in words
        begins = time.time()
        while process.poll() is None and not _trains(project, before if new else [], begins):
            time.sleep(0.01)
        wait_s = chance.uniform(0, trained_s)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(wait_s)
        return None
    return _strike(process, chance)


def _trains(project: Path, before: list[str], begins: float) -> bool:
    """Tell whether a run that is none of `before` has begun to train since a moment."""
    if run_ids(Layout(project).runs) == before:
        return False
    return any(
        isinstance(event, Started) and event.at > begins for event in read_events(newest(project))
    )


def _strike(process: "subprocess.Popen[bytes]", chance: random.Random) -> str | None:
    try:
        ranks = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return None
    how = "command"
    if chance.random() < 0.3:  # asked to stop first: in the middle of an epoch, and of saving
        how = "asked to stop, then command"
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0, 0.3))
            return None
    victim = chance.choice([process, process, *ranks])  # the command itself most often
    with contextlib.suppress(ProcessLookupError):
        os.kill(victim.pid, signal.SIGKILL)
    process.wait(60)
    _, alive = psutil.wait_procs(ranks, timeout=30)
    assert not alive, "a rank outlived its command"
    return how if victim is process else how.replace("command", "rank")


def test_a_killed_training_ends_where_the_unbroken_one_did(unbroken):
    project, words, wanted, trained_s = unbroken
    chance = random.Random(time.time_ns())
    hits, elsewhere, compared = Counter[str](), 0, 0
    while hits.total() < KILLS:
        before = run_ids(Layout(project).runs)
        resume = ("train", "--resume", "--json")
        typed = words
        while True:
            how = kill_in(project, typed, chance, trained_s)
            has_begun = run_ids(Layout(project).runs) != before
            if how and has_begun and is_at_it(project):
                hits[how] += 1
            else:
                elsewhere += 1
            if not has_begun or hits.total() >= KILLS or chance.random() < 0.5:
                break
            typed = resume
        if not has_begun:
            continue

        done = mlstack(project, *resume)

        if done.returncode:  # it had finished before it was hit
            assert "no run that was cut short" in done.stdout, done.stdout
            continue
        compared += 1
        assert result(project, done.stdout) == wanted
    print(f"killed at work: {dict(hits)}; before or after: {elsewhere}; ends compared: {compared}")
    assert compared
