"""The whole way over a real Slurm on loopback, with real ranks on two nodes."""

import json
import os
import subprocess
import sys

import pytest
import slurm_cluster
import torch

from mlstack.records.base import read
from mlstack.records.job import JOB, Job
from mlstack.records.layout import Layout
from mlstack.records.run import (
    EpochEnded,
    Finished,
    Started,
    Stopped,
    read_events,
    run_ids,
)

pytestmark = pytest.mark.slow

EPOCHS = 15


@pytest.fixture(scope="module")
def cluster():
    with slurm_cluster.serving() as running:
        yield running


def begin(project, environment, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "mlstack", "train", *arguments],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def weights(project, run):
    file = Layout(project).run(run) / "checkpoints" / "last.ckpt"
    state = torch.load(file, weights_only=True)["state_dict"]
    return {name: tensor.numpy().tobytes() for name, tensor in state.items()}


def newest(project):
    return Layout(project).run(run_ids(Layout(project).runs)[-1])


def test_a_job_that_loses_its_nodes_ends_with_the_weights_of_an_unbroken_run_here(project, cluster):
    flags = ["--ranks", "2", "--epochs", str(EPOCHS), "--json"]
    here = begin(project, os.environ | {"OMP_NUM_THREADS": "1"}, *flags)
    unbroken = json.loads(here.communicate(timeout=120)[0])["run"]

    there = begin(
        project, cluster.environment, *flags, "--on", "slurm", "--set", "train.slurm.nodes=2"
    )
    slurm_cluster.until(lambda: newest(project).name != unbroken)
    folder = newest(project)

    def is_halfway():
        return sum(isinstance(event, EpochEnded) for event in read_events(folder)) >= 3

    slurm_cluster.until(is_halfway, 90)
    cluster.ask("scontrol", "requeue", read(folder / JOB, Job).id)
    said, complaints = there.communicate(timeout=200)

    assert there.returncode == 0, complaints
    result = json.loads(said)
    events = read_events(folder)
    kinds = [type(event) for event in events]
    assert (kinds.count(Started), kinds.count(Stopped), kinds[-1]) == (2, 1, Finished)
    assert kinds.count(EpochEnded) == EPOCHS
    assert weights(project, result["run"]) == weights(project, unbroken)


def test_without_slurm_train_says_so_and_plans_nothing(project):
    refused = begin(
        project, os.environ | {"PATH": "/usr/bin-of-nowhere"}, "--on", "slurm", "--json"
    )
    error = json.loads(refused.communicate(timeout=60)[0])["error"]

    assert refused.returncode == 6
    assert "`sbatch` is not here" in error["problem"]
    assert "login node" in error["hint"]
    assert not run_ids(Layout(project).runs)


def test_what_slurm_refuses_leaves_no_run(project, cluster):
    refused = begin(
        project, cluster.environment,
        "--on", "slurm", "--set", "train.slurm.partition=nowhere", "--json",
    )  # fmt: skip
    error = json.loads(refused.communicate(timeout=60)[0])["error"]

    assert refused.returncode == 2
    assert "invalid partition" in error["problem"]
    assert not run_ids(Layout(project).runs)
