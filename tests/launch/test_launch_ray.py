"""Runs on a real cluster of Ray with two nodes on loopback; the ranks are fake, without torch."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import ray_cluster
from msgspec import structs

from mlstack.errors import BusyError, Interrupted, MachineError, StepError
from mlstack.launch.on_ray import ranks as on_ray
from mlstack.launch.ranks import Program
from mlstack.launch.supervise import Patience, StopRequest, Terms, supervise
from mlstack.records.run import EpochEnded, Stopped, read_events

pytestmark = pytest.mark.slow

BOARDS = """
import os, ray
from mlstack.launch.on_ray.driver import board_here
ray.init(address=os.environ["RAY_ADDRESS"], log_to_driver=False, logging_level="ERROR")
def where(*_):
    return ray.get_runtime_context().get_node_id()
for _ in range(6):
    print(ray.get(board_here().__ray_call__.remote(where)) == where())
"""

HOG = """
import os, sys, time, ray
ray.init(address=os.environ["RAY_ADDRESS"], log_to_driver=False, logging_level="ERROR")
@ray.remote(num_cpus=1)
def hog(begun):
    open(begun, "w").close()
    time.sleep(120)
ray.get(hog.remote(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def unseen(tmp_path_factory):
    """Give a folder that one of the nodes does not see."""
    return tmp_path_factory.mktemp("unseen")


@pytest.fixture(scope="module")
def cluster(unseen):
    with ray_cluster.serving(unseen if os.getuid() == 0 else None) as running:
        yield running


@pytest.fixture
def on_cluster(cluster, monkeypatch):
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)


def train(folder, spec, stop=None):
    terms = Terms(
        stop=stop or StopRequest(),
        start=on_ray.started,
        patience=Patience(failed_s=10, echo_s=10, start_s=120),
    )
    return supervise(folder, spec, resume=True, program=Program("fake_ranks"), terms=terms)


def environment(folder, rank):
    lines = (folder / f"environment-{rank}").read_text().splitlines()
    return dict(line.partition("=")[::2] for line in lines)


def no_rank_left(folder):
    pids = [int(p.read_text()) for p in folder.glob("pid-*")]
    assert pids
    deadline = time.monotonic() + 10
    while any(runs(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(runs(pid) for pid in pids)


def runs(pid):
    """Tell whether a process is alive; one that its new parent has not buried yet is not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_rank_that_dies_on_the_cluster_is_named_whatever_the_other_says(make_run, on_cluster):
    folder, spec = make_run("complain", "die")

    with pytest.raises(StepError, match="rank 1 was killed by SIGKILL"):
        list(train(folder, spec))

    assert no_rank_left(folder)


def test_a_rank_that_goes_with_its_worker_is_named_and_each_node_has_had_one(make_run, on_cluster):
    folder, spec = make_run("train-long", "train-long")

    def lose_worker():
        deadline = time.monotonic() + 30
        while not (folder / "heartbeat-1").exists():  # the ranks do not wait for each other
            assert time.monotonic() < deadline
            time.sleep(0.05)
        rank = psutil.Process(int((folder / "pid-1").read_text()))
        rank.parent().kill()

    with pytest.raises(StepError, match="rank 1 was lost with its worker of Ray"):
        for event in train(folder, spec):
            if isinstance(event, EpochEnded) and event.epoch == 3:
                lose_worker()

    assert no_rank_left(folder)
    found = [environment(folder, number) for number in (0, 1)]
    assert [one["RANK"] + one["LOCAL_RANK"] for one in found] == ["00", "10"]
    assert {one["WORLD_SIZE"] + one["LOCAL_WORLD_SIZE"] for one in found} == {"21"}
    assert {one["GROUP_RANK"] for one in found} == {"0", "1"}
    assert len({one["MASTER_ADDR"] + one["MASTER_PORT"] for one in found}) == 1
    assert found[0]["TORCHELASTIC_RUN_ID"] == spec.id
    assert found[1]["CUDA_VISIBLE_DEVICES"] == ""


def test_asked_to_stop_a_cluster_that_was_started_here_saves_and_leaves_nothing(
    make_run, monkeypatch
):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    folder, spec = make_run("train-long", "train-long")
    before = {process.pid for process in psutil.process_iter()}
    stop = StopRequest()

    with pytest.raises(Interrupted) as stopped:
        for event in train(folder, spec, stop):
            if isinstance(event, EpochEnded) and event.epoch == 3:
                stop.ask(signal.SIGINT)

    assert stopped.value.exit_code == 130
    assert isinstance(read_events(folder)[-1], Stopped)
    assert read_events(folder)[-1].step == 7
    assert no_rank_left(folder)
    deadline = time.monotonic() + 10
    while rays(before) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not rays(before)


def rays(before):
    """List the processes of Ray that are new."""
    found = []
    for process in psutil.process_iter():
        try:
            words = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if process.pid not in before and any(n in words for n in ("raylet", "gcs_server", "ray::")):
            found.append(process)
    return [process for process in found if runs(process.pid)]


def test_a_cluster_that_does_not_answer_is_named(make_run, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    folder, spec = make_run("train")

    with pytest.raises(MachineError, match="no cluster of Ray answers at") as error:
        list(train(folder, spec))

    assert (Path(error.value.where) / "ray.log").is_file()  # no rank has begun, so none has a log


def test_a_cluster_that_is_too_small_is_named(make_run, on_cluster):
    folder, spec = make_run(*["train"] * 3)

    with pytest.raises(MachineError, match="2 of 3 CPUs"):
        list(train(folder, spec))


def test_what_the_ranks_say_is_kept_on_the_node_of_the_driver(on_cluster):
    done = subprocess.run(
        [sys.executable, "-c", BOARDS], capture_output=True, text=True, timeout=100, check=False
    )

    assert done.stdout.split() == ["True"] * 6, done.stderr


def test_a_cluster_that_others_use_is_not_waited_for_without_a_word(make_run, on_cluster, tmp_path):
    folder, spec = make_run("train", "train")
    begun = tmp_path / "begun"
    hog = subprocess.Popen([sys.executable, "-c", HOG, str(begun)], start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while not begun.exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)

        with pytest.raises(BusyError, match="1 of 2 CPUs free") as refused:
            list(train(folder, spec))
    finally:
        hog.kill()
        hog.wait()

    assert "ray status" in refused.value.hint


@pytest.mark.skipif(os.getuid() != 0, reason="only root can hide a folder from a node")
def test_a_folder_that_a_machine_does_not_see_is_named(make_run, on_cluster, unseen):
    folder, spec = make_run("train-long", "train-long")
    shutil.copy(folder.parent / "fake_ranks.py", unseen)
    there = folder.rename(unseen / folder.name)

    with pytest.raises(MachineError, match="does not see") as error:
        list(train(there, structs.replace(spec, root=str(unseen))))

    assert str(there) in error.value.problem
