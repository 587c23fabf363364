"""The whole way over real clusters on loopback, with real ranks on two nodes of each."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import ray_cluster
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


FLAGS = ["--ranks", "2", "--epochs", str(EPOCHS), "--json"]


@pytest.fixture(scope="module")
def cluster():
    with slurm_cluster.serving() as running:
        yield running


@pytest.fixture(scope="module")
def trained(tmp_path_factory, project_maker):
    """Give a project, and the weights of a run of two ranks here that nothing has disturbed."""
    project = project_maker(tmp_path_factory.mktemp("clusters") / "demo")
    here = begin(project, os.environ | {"OMP_NUM_THREADS": "1"}, *FLAGS)
    return project, weights(project, json.loads(here.communicate(timeout=120)[0])["run"])


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


def test_a_job_that_loses_its_nodes_ends_with_the_weights_of_an_unbroken_run_here(trained, cluster):
    project, unbroken = trained
    before = newest(project)

    there = begin(
        project, cluster.environment, *FLAGS, "--on", "slurm", "--set", "train.slurm.nodes=2"
    )
    slurm_cluster.until(lambda: newest(project) != before)
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
    assert weights(project, result["run"]) == unbroken


def test_a_run_in_the_queue_is_listed_so_and_says_how_to_follow_or_end_it(project, cluster):
    held = ("--on", "slurm", "--set", "train.slurm.extra=[--hold]")
    there = begin(project, cluster.environment, *FLAGS, *held)
    slurm_cluster.until(lambda: run_ids(Layout(project).runs), 60)
    slurm_cluster.until((newest(project) / JOB).exists, 60)
    there.kill()  # as a terminal that is closed
    there.communicate()
    run, job = newest(project).name, read(newest(project) / JOB, Job).id

    def say(*words):
        done = begin(project, cluster.environment, *words)
        said, complaints = done.communicate(timeout=60)
        return done.returncode, said, complaints

    listed = json.loads(say("ls", "--json", "--state", "queued")[1])["runs"]
    shown = say("show")[1]
    here = say("--resume")
    cluster.ask("scancel", job)
    over = say("show")[1]

    assert [(row["id"], row["problem"]) for row in listed] == [
        (run, f"job {job} of Slurm waits (JobHeldUser)")
    ]
    assert f"queued: job {job} of Slurm waits (JobHeldUser)" in shown
    assert f"mlstack train --on slurm --resume {run}" in shown
    assert here[0] == 75 and f"`scancel {job}` ends it" in here[2]
    assert "stopped: " in over and f"mlstack train --on slurm --resume {run}" in over


def test_a_job_that_is_being_submitted_when_ctrl_c_is_typed_is_taken_back(
    project, cluster, tmp_path
):
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    real = f'{shutil.which("sbatch")} "$@"'
    sbatch.write_text(f"#!/bin/sh\nsaid=$({real})\nkill -INT $PPID\nsleep 1\necho $said\n")
    sbatch.chmod(0o755)
    environment = cluster.environment | {"PATH": f"{sbatch.parent}:{os.environ['PATH']}"}

    there = begin(project, environment, *FLAGS, "--on", "slurm")
    said = there.communicate(timeout=100)

    assert there.returncode == 130, said
    job = read(newest(project) / JOB, Job).id
    cluster.wait(job, "CANCELLED")


def test_two_nodes_of_ray_train_what_two_ranks_here_do(trained):
    project, unbroken = trained

    with ray_cluster.serving() as cluster:
        there = begin(project, cluster.environment, *FLAGS, "--on", "ray")
        said, complaints = there.communicate(timeout=200)

    assert there.returncode == 0, complaints
    assert weights(project, json.loads(said)["run"]) == unbroken
    assert not (newest(project) / ".ray").exists()


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
