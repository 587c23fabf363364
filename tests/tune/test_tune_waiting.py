"""`mlstack tune` waits in order for GPUs that others use, as `train` does."""

import signal
import subprocess
import sys

from fake_gpus import gpus_table, lease, with_driver

from mlstack.launch.gpus import FakeGpus
from mlstack.launch.leases import claim, overview


def tune(project, environment, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "mlstack", "tune", *arguments],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_search_waits_for_the_gpu_of_another_and_takes_it_when_that_is_over(project, tmp_path):
    environment, table = with_driver(tmp_path, "Faked"), gpus_table(tmp_path)
    with lease(1, "run a", machine=FakeGpus("Faked"), table=table):
        waiting = tune(project, environment, "--wait")
        said = [waiting.stderr.readline(), waiting.stderr.readline()]
        holders, waiters = overview(table)
    begun = waiting.stderr.readline()
    waiting.send_signal(signal.SIGINT)
    waiting.communicate()

    assert said[0].startswith("waiting for GPUs: 0 of 1 are free, number 1 in the queue")
    assert said[1].startswith("  used by run a (process")
    assert [one.what for one in holders] == ["run a"]
    assert [(one.what, one.pid) for one in waiters] == [
        ("`mlstack tune` in digits-demo", waiting.pid)
    ]
    assert begun.startswith("study ") and begun.rstrip().endswith("on Faked")
    assert overview(table) == ([], [])


def test_a_search_that_is_interrupted_while_it_waits_leaves_the_queue_and_no_study(
    project, tmp_path
):
    environment, table = with_driver(tmp_path, "Faked"), gpus_table(tmp_path)
    with lease(1, "run a", machine=FakeGpus("Faked"), table=table):
        waiting = tune(project, environment, "--wait")
        waiting.stderr.readline()
        waiting.send_signal(signal.SIGINT)
        waiting.communicate()
        left = overview(table)[1]

    assert waiting.returncode == 130
    assert left == []
    assert not list(project.glob(".mlstack/studies/*.journal"))


def test_a_search_that_may_not_wait_is_refused_and_told_who_has_the_gpus(project, tmp_path):
    environment, table = with_driver(tmp_path, "Faked"), gpus_table(tmp_path)
    with lease(1, "run a", machine=FakeGpus("Faked"), table=table):
        refused = tune(project, environment)
        _, words = refused.communicate()

    assert refused.returncode == 75
    assert "0 of 1 GPUs are free; used by run a (process" in words
    assert "--wait waits for them in order; --gpus 0 tunes on the CPU" in words


def test_auto_waits_until_one_trial_has_all_the_gpus_it_needs(tmp_path):
    machine, table = FakeGpus("A", "B"), tmp_path / "gpus.db"

    with claim("auto", "tune", least=2, machine=machine, table=table) as claimed:
        with lease(1, "run a", machine=machine, table=table):
            blocked = next(claimed.wait())
        list(claimed.wait())

        assert (blocked.free, blocked.count) == (1, 2)
        assert len(claimed.taken) == 2
