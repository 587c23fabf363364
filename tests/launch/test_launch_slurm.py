"""Jobs of a real Slurm on loopback, with two nodes; the ranks are fake, and so without torch."""

import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
import slurm_cluster
from msgspec import structs

from mlstack.config.train_sections import Slurm
from mlstack.errors import ConfigError, DataError, Interrupted, MachineError, StepError
from mlstack.launch import at_work, code
from mlstack.launch.slurm import follow, job, queue, script
from mlstack.launch.supervise import StopRequest
from mlstack.records import base
from mlstack.records.base import read
from mlstack.records.job import JOB, Job, JobSeen
from mlstack.records.run import (
    EpochEnded,
    Finished,
    Started,
    Stopped,
    read_events,
    summarise,
)


@pytest.fixture(scope="module")
def unseen(tmp_path_factory):
    """Give a folder that the node of partition `blind` does not see."""
    return tmp_path_factory.mktemp("unseen")


@pytest.fixture(scope="module")
def cluster(unseen):
    with slurm_cluster.serving(unseen if os.getuid() == 0 else None) as running:
        yield running


@pytest.fixture(autouse=True)
def speak_to_it(cluster, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])


class Followed:
    """A run that is followed in a thread, as `mlstack train` does in its own."""

    def __init__(self, folder, spec, **slurm):
        self.folder, self.spec = folder, spec
        self.stop = StopRequest()
        self.records, self.error = [], None
        self.job = follow.submit(folder, spec, Slurm(**slurm), module="fake_ranks")
        self.thread = threading.Thread(target=self._follow)
        self.thread.start()

    def _follow(self):
        try:
            self.records.extend(follow.follow(self.folder, self.spec, self.job, stop=self.stop))
        except (StepError, DataError, Interrupted, MachineError, ConfigError) as error:
            self.error = error

    def until_trained(self, epochs=3):
        def enough():
            events = read_events(self.folder)
            up = all((self.folder / f"heartbeat-{n}").exists() for n in range(self.spec.ranks))
            return up and sum(isinstance(event, EpochEnded) for event in events) >= epochs

        slurm_cluster.until(enough)

    def end(self):
        self.thread.join(60)
        assert not self.thread.is_alive(), (self.folder / "logs" / "slurm.log").read_text()
        return self.error


def behave(folder, *behaviours):
    for number, behaviour in enumerate(behaviours):
        (folder / f"behave-{number}").write_text(behaviour)


def environment(folder, rank):
    lines = (folder / f"environment-{rank}").read_text().splitlines()
    return dict(line.partition("=")[::2] for line in lines)


def test_two_nodes_train_one_run_and_its_events_are_followed(make_run):
    folder, spec = make_run("train", "train")
    run = Followed(folder, spec, nodes=2)

    assert run.end() is None
    events = [record for record in run.records if not isinstance(record, JobSeen)]
    assert [type(e) for e in events] == [Started, EpochEnded, EpochEnded, Finished]
    states = [record.state for record in run.records if isinstance(record, JobSeen)]
    assert states[0] == "PENDING"
    ranks = [environment(folder, number) for number in (0, 1)]
    assert [rank["SLURMD_NODENAME"] for rank in ranks] == ["na", "nb"]
    assert [rank["RANK"] + rank["LOCAL_RANK"] + rank["GROUP_RANK"] for rank in ranks] == [
        "000",
        "101",
    ]
    for rank in ranks:
        assert (rank["WORLD_SIZE"], rank["LOCAL_WORLD_SIZE"]) == ("2", "1")
        assert rank["MASTER_PORT"] == ranks[0]["MASTER_PORT"]
        assert rank["TORCHELASTIC_RUN_ID"] == spec.id
        assert rank["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize("others", ["complain-early", "train-long"])
def test_a_rank_that_is_killed_is_named_whatever_the_others_say(make_run, others):
    folder, spec = make_run(others, "die")

    error = Followed(folder, spec, nodes=2).end()

    assert isinstance(error, StepError)
    assert "rank 1 was killed by SIGKILL" in error.problem
    assert read_events(folder)[-1].problem == error.problem


def test_what_a_rank_raised_ends_the_job_with_its_exit_code(make_run, cluster):
    folder, spec = make_run("train-long", "raise")
    run = Followed(folder, spec, nodes=2)

    error = run.end()

    assert isinstance(error, DataError)
    assert error.problem == "ValueError: no"
    assert cluster.state(run.job.id) == "FAILED"


def test_a_rank_that_says_nothing_is_named_with_its_last_words(make_run):
    folder, spec = make_run("crash")

    error = Followed(folder, spec).end()

    assert "rank 0 ended with exit code 1" in error.problem
    assert "nobody caught this" in "".join(error.__notes__)
    assert error.where == str(folder / "logs" / "rank-0.log")


def test_asked_once_the_run_is_saved_and_the_job_over(make_run, cluster):
    folder, spec = make_run("train-long", "train-long")
    run = Followed(folder, spec, nodes=2)
    run.until_trained()

    run.stop.ask(signal.SIGINT)

    error = run.end()
    assert isinstance(error, Interrupted)
    assert error.exit_code == 130
    assert f"mlstack train --on slurm --resume {spec.id}" in error.hint
    assert isinstance(read_events(folder)[-1], Stopped)
    assert read_events(folder)[-1].step == 7
    cluster.wait(run.job.id, "FAILED")  # not completed: it was cut short


def test_asked_twice_a_rank_that_does_not_listen_is_killed(make_run):
    folder, spec = make_run("ignore-sigterm")
    run = Followed(folder, spec)
    slurm_cluster.until((folder / "heartbeat-0").exists)

    run.stop.ask(signal.SIGINT)
    time.sleep(1)
    run.stop.ask(signal.SIGINT)

    assert isinstance(run.end(), Interrupted)


def test_scancel_saves_the_run(make_run, cluster):
    folder, spec = make_run("train-long", "train-long")
    run = Followed(folder, spec, nodes=2)
    run.until_trained()

    cluster.ask("scancel", run.job.id)

    error = run.end()
    assert isinstance(error, Interrupted)
    assert error.exit_code == 143
    assert read_events(folder)[-1].step == 7


@pytest.mark.parametrize("by_person", [True, False])
def test_a_job_that_is_cancelled_in_the_queue_stops_its_run(make_run, cluster, by_person):
    folder, spec = make_run("train")
    run = Followed(folder, spec, extra=["--hold"])
    cluster.wait(run.job.id, "PENDING")

    if by_person:
        run.stop.ask(signal.SIGINT)
    else:
        cluster.ask("scancel", run.job.id)

    error = run.end()
    assert isinstance(error, Interrupted)
    assert error.exit_code == (130 if by_person else 143)
    assert "CANCELLED" in read_events(folder)[-1].reason
    assert next(r.reason for r in run.records if isinstance(r, JobSeen)) == "JobHeldUser"


def test_near_its_time_limit_the_job_goes_back_into_the_queue_and_on(make_run, cluster):
    folder, spec = make_run("train-long", "train-long")
    run = Followed(folder, spec, nodes=2, time="1h")
    run.until_trained()
    behave(folder, "train", "train")

    cluster.ask("scancel", "--batch", "--signal=USR1", run.job.id)  # as Slurm does
    assert run.end() is None
    kinds = [type(event) for event in read_events(folder)]
    assert kinds.count(Started) == 2
    assert kinds.count(Stopped) == 1
    assert kinds[-1] is Finished
    assert environment(folder, 0)["TORCHELASTIC_RESTART_COUNT"] == "1"
    assert any(r.state == "PENDING" for r in run.records[3:] if isinstance(r, JobSeen))


def test_a_job_whose_node_fails_goes_on_when_there_is_one_again(make_run, cluster):
    folder, spec = make_run("train-long", "train-long")
    run = Followed(folder, spec, nodes=2)
    run.until_trained()
    behave(folder, "train", "train")

    # Its slurmd answers still, so that it is up again a moment later (ReturnToService=2).
    cluster.ask("scontrol", "update", "NodeName=nb", "State=DOWN", "Reason=test")

    assert run.end() is None
    kinds = [type(event) for event in read_events(folder)]
    assert kinds.count(Started) == 2
    assert kinds[-1] is Finished


def now(folder):
    """Say what a list of runs says of one."""
    found = at_work.up_to_date(folder, summarise(folder))
    return found.state, found.problem


def test_a_run_is_what_its_job_is_before_and_after_it_was_put_back(make_run, cluster):
    folder, spec = make_run("train-long", "train-long")
    run = Followed(folder, spec, nodes=2, extra=["--hold"])
    cluster.wait(run.job.id, "PENDING")
    before = now(folder)
    cluster.ask("scontrol", "release", run.job.id)
    run.until_trained()
    during = now(folder)

    cluster.ask("scontrol", "requeuehold", run.job.id)
    cluster.wait(run.job.id, "PENDING")
    put_back = now(folder)
    said = read_events(folder)[-1]
    cluster.ask("scancel", run.job.id)
    run.end()
    cancelled = now(folder)

    name = f"job {run.job.id} of Slurm"
    assert before == ("queued", f"{name} waits (JobHeldUser)")
    assert during == ("running", f"{name} is running on na,nb")
    assert isinstance(said, Stopped)  # what the run itself said last is not what it is
    assert put_back[0] == "queued" and put_back[1].startswith(f"{name} waits (")
    assert cancelled[0] == "stopped" and cancelled[1].startswith(f"{name} is over: cancelled")


def test_a_job_that_may_not_be_put_back_is_stopped_when_it_is_preempted(make_run, cluster):
    folder, spec = make_run("train-long")
    extra = ["--cpus-per-task=4", "--nodelist=na", "--no-requeue"]
    run = Followed(folder, spec, partition="cheap", extra=extra)
    run.until_trained()

    other = cluster.ask(
        "sbatch", "--parsable", "--partition=dear", "--cpus-per-task=4", "--nodelist=na",
        "--output=/dev/null", "--wrap=true",
    )  # fmt: skip

    error = run.end()
    cluster.wait(other, "COMPLETED")
    assert isinstance(error, Interrupted)
    assert read_events(folder)[-1].step == 7
    assert now(folder) == (
        "stopped",
        f"job {run.job.id} of Slurm is over: failed (NonZeroExitCode)",
    )


def test_a_job_that_is_preempted_waits_for_its_turn_again_and_goes_on(make_run, cluster):
    folder, spec = make_run("train-long")
    extra = ["--cpus-per-task=4", "--nodelist=na"]
    run = Followed(folder, spec, partition="patient", extra=extra)
    run.until_trained()

    other = cluster.ask(
        "sbatch", "--parsable", "--partition=dear", "--cpus-per-task=4", "--nodelist=na",
        "--output=/dev/null", "--wrap=sleep 300",
    )  # fmt: skip
    cluster.wait(run.job.id, "PENDING")
    waiting, last = now(folder), read_events(folder)[-1]
    behave(folder, "train")
    cluster.ask("scancel", other)

    assert waiting[0] == "queued"
    assert isinstance(last, Stopped) and last.step == 7  # saved before it had to leave
    assert run.end() is None
    assert [type(e) for e in read_events(folder)].count(Started) == 2
    assert now(folder)[0] == "finished"


def test_a_job_that_is_gone_without_a_word_stops_its_run(make_run, cluster):
    folder, spec = make_run("ignore-sigterm")
    submitted = follow.submit(folder, spec, Slurm(), module="fake_ranks")
    slurm_cluster.until((folder / "heartbeat-0").exists)

    cluster.ask("scancel", "--signal=KILL", "--full", submitted.id)
    slurm_cluster.until(lambda: queue.look(submitted).is_over, 90)

    assert isinstance(read_events(folder)[-1], Started)
    assert now(folder) == ("stopped", f"job {submitted.id} of Slurm is over: cancelled")


def test_many_jobs_are_asked_for_at_once_and_one_that_slurm_forgot_is_over(cluster, make_run):
    folder, spec = make_run("train")
    held = follow.submit(folder, spec, Slurm(extra=["--hold"]), module="fake_ranks")
    forgotten = structs.replace(held, run="another", id="999999")

    seen = queue.look_at([held, forgotten])
    cluster.ask("scancel", held.id)

    assert (seen[spec.id].state, seen[spec.id].reason) == ("PENDING", "JobHeldUser")
    assert seen["another"].state == queue.GONE
    assert queue.look_at([forgotten])["another"].state == queue.GONE
    assert queue.look_at([]) == {}


def test_a_job_of_that_number_that_is_not_the_runs_is_left_alone(make_run, cluster):
    folder, spec = make_run("train")
    there = folder.parent / "there"
    there.mkdir()
    (there / "job.sh").write_text("#!/bin/sh\nsleep 60\n")
    other = cluster.ask("sbatch", "--parsable", "--hold", str(there / "job.sh"))
    ours = Job(run=spec.id, scheduler="slurm", id=other, submitted=0.0)
    base.write(folder / JOB, ours)

    found, listed = follow.job_of(folder), now(folder)
    stop = StopRequest()
    stop.ask()
    with pytest.raises(StepError, match="GONE"):
        list(follow.follow(folder, spec, ours, stop=stop))
    state = cluster.state(other)
    cluster.ask("scancel", other)

    assert found is None
    assert listed == ("stopped", "it never started")
    assert state == "PENDING"


def test_a_job_that_a_person_submits_is_noted_and_can_be_followed(make_run, cluster):
    folder, spec = make_run("train-long")
    follow.submit(folder, spec, Slurm(extra=["--hold"]), module="fake_ranks")
    cluster.ask("scancel", read(folder / JOB, Job).id)
    text = (folder / script.SCRIPT).read_text().replace("#SBATCH --hold\n", "")
    (folder / script.SCRIPT).write_text(text)

    by_hand = cluster.ask("sbatch", "--parsable", str(folder / script.SCRIPT))

    slurm_cluster.until((folder / "heartbeat-0").exists, 60)
    noted = follow.job_of(folder)
    cluster.ask("scancel", by_hand)
    assert noted is not None and noted.id == by_hand
    assert noted.python_sha256 == code.python_sha256(folder.parent)


def test_a_second_job_of_a_run_that_is_trained_leaves_it_alone(make_run, cluster):
    folder, spec = make_run("train-long")
    run = Followed(folder, spec)
    run.until_trained()

    second = cluster.ask("sbatch", "--parsable", str(folder / script.SCRIPT))
    cluster.wait(second, "FAILED", limit_s=90)
    goes_on, noted = run.thread.is_alive(), read(folder / JOB, Job).id
    run.stop.ask()

    assert goes_on
    assert noted == run.job.id
    assert "already" in (folder / "logs" / "slurm.log").read_text()
    assert isinstance(run.end(), Interrupted)


def test_a_node_without_git_does_not_take_the_code_for_another(make_run):
    folder, spec = make_run("train")
    subprocess.run(["git", "init", "-q"], cwd=folder.parent, check=True)
    (folder.parent / ".gitignore").write_text("env/\n")
    (folder.parent / "env").mkdir()
    (folder.parent / "env" / "library.py").touch()  # only git knows that it is none of ours
    programs = folder.parent / "bin"
    programs.mkdir()
    for name in ("bash", "sh", "hostname", "srun", "scancel", "scontrol"):
        (programs / name).symlink_to(shutil.which(name))

    run = Followed(folder, spec, extra=[f"--export=ALL,PATH={programs}"])

    assert run.end() is None
    assert "without git" in (folder / "logs" / "slurm.log").read_text()


def test_a_run_that_is_submitted_from_inside_another_job_does_not_get_its_sizes(
    make_run, monkeypatch
):
    folder, spec = make_run("train")
    for name, value in (
        ("SLURM_JOB_ID", "7"),
        ("SLURM_CPUS_PER_TASK", "64"),
        ("SLURM_MEM_PER_CPU", "1"),  # srun takes one of these two
        ("SLURM_MEM_PER_NODE", "1"),
    ):
        monkeypatch.setenv(name, value)

    assert Followed(folder, spec).end() is None
    assert "SLURM_MEM_PER_CPU" not in environment(folder, 0)


def test_an_srun_that_cannot_start_the_ranks_is_quoted(make_run, monkeypatch):
    folder, spec = make_run("train")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "1")
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "1")

    error = Followed(folder, spec).end()

    assert isinstance(error, StepError)
    assert "mutually exclusive" in error.hint


def test_a_wish_to_stop_while_the_job_starts_is_no_failure(make_run, monkeypatch, tmp_path):
    # A watcher that needs long to start, and does not listen yet.
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, time\nif 'mlstack.launch.slurm.job' in sys.orig_argv: time.sleep(4)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    folder, spec = make_run("train-long")
    run = Followed(folder, spec)
    slurm_cluster.until(lambda: queue.look(run.job).state == "RUNNING")
    time.sleep(1)

    run.stop.ask(signal.SIGINT)

    error = run.end()
    assert isinstance(error, Interrupted), error
    assert error.exit_code == 130
    assert isinstance(read_events(folder)[-1], Stopped)


def test_a_wish_to_stop_that_slurm_does_not_hear_is_told_again(make_run, monkeypatch, tmp_path):
    folder, spec = make_run("train-long")
    run = Followed(folder, spec)
    run.until_trained()
    down, programs = tmp_path / "down", tmp_path / "bin"
    down.touch()
    programs.mkdir()
    for name in ("scontrol", "scancel"):
        text = f"[ -e '{down}' ] && echo Unable to contact slurm controller >&2 && exit 1"
        (programs / name).write_text(f'#!/bin/sh\n{text}\nexec {shutil.which(name)} "$@"\n')
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    run.stop.ask(signal.SIGINT)
    time.sleep(3)
    is_followed = run.thread.is_alive()
    down.unlink()

    error = run.end()
    assert is_followed
    assert isinstance(error, Interrupted)
    assert error.exit_code == 130
    assert isinstance(read_events(folder)[-1], Stopped)


def test_a_slurm_that_does_not_answer_leaves_a_run_what_it_said(make_run, monkeypatch, tmp_path):
    folder, spec = make_run("train")
    submitted = follow.submit(folder, spec, Slurm(extra=["--hold"]), module="fake_ranks")
    queue.cancel(submitted.id)
    silent = tmp_path / "silent.conf"
    silent.write_text("ClusterName=none\nSlurmctldHost=localhost\nSlurmctldPort=9\n")
    monkeypatch.setenv("SLURM_CONF", str(silent))

    assert now(folder) == ("running", f"job {submitted.id} of Slurm: Slurm does not answer")


def test_a_time_limit_that_leaves_no_time_to_train_is_no_endless_loop(make_run, cluster):
    folder, spec = make_run("wait")
    run = Followed(folder, spec)
    slurm_cluster.until((folder / "heartbeat-0").exists)

    cluster.ask("scancel", "--batch", "--signal=USR1", run.job.id)

    error = run.end()
    assert isinstance(error, StepError)
    assert "time limit" in error.problem
    assert "train.slurm.time" in error.hint


def test_whoever_leaves_leaves_the_job_and_can_follow_it_again(make_run):
    folder, spec = make_run("train-long")
    submitted = follow.submit(folder, spec, Slurm(), module="fake_ranks")
    records = follow.follow(folder, spec, submitted, stop=StopRequest())
    while not isinstance(next(records), EpochEnded):
        pass

    records.close()
    behave(folder, "train")
    again = follow.job_of(folder)
    seen = []
    stop = StopRequest()
    with pytest.raises(Interrupted):
        for record in follow.follow(folder, spec, again, stop=stop):
            seen.append(record)
            if len(seen) == 5:
                stop.ask()

    assert again == submitted
    assert any(isinstance(record, Started) for record in seen)  # from the job's beginning
    assert follow.job_of(folder) is None


def test_code_that_changes_while_the_job_waits_is_not_trained(make_run, cluster):
    folder, spec = make_run("train")
    run = Followed(folder, spec, extra=["--hold"])
    (Path(spec.root) / "model.py").write_text("changed = True\n")

    cluster.ask("scontrol", "release", run.job.id)

    error = run.end()
    assert isinstance(error, ConfigError)
    assert "code has changed" in error.problem
    assert not (folder / "pid-0").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can hide a folder from a node")
def test_a_folder_that_the_node_does_not_see_is_named(make_run, unseen):
    folder, spec = make_run("train")
    there = folder.rename(unseen / folder.name)

    error = Followed(there, structs.replace(spec, root=str(unseen)), partition="blind").end()

    assert isinstance(error, MachineError)
    assert f"does not see `{there}`" in error.problem


def test_what_slurm_refuses_is_said_in_its_words(make_run):
    folder, spec = make_run("train")

    with pytest.raises(ConfigError, match="invalid partition"):
        follow.submit(folder, spec, Slurm(partition="nowhere"))


def test_a_script_asks_for_everything_and_slurm_understands_it(make_run, cluster):
    folder, spec = make_run("train", "train")
    on_gpus = structs.replace(spec, gpus=[0])
    asked = Slurm(
        partition="main", nodes=2, gpus_per_node=1, time="1d2h30m", extra=["--cpus-per-task=2"]
    )
    path = folder / "job's script 100%.sh"
    path.write_text(script.render(path.parent, on_gpus, asked, "fake_ranks"))

    job_id = cluster.ask("sbatch", "--parsable", "--hold", str(path))

    shown = cluster.ask("scontrol", "show", "job", "-o", job_id)
    cluster.ask("scancel", job_id)
    for part in (
        "TimeLimit=1-02:30:00",
        "NumNodes=2-2",
        "NumTasks=2",
        "CPUs/Task=2",
        "TresPerNode=gres:gpu:1",
        "Requeue=1",
        f"StdOut={folder}/logs/slurm.log",
    ):
        assert part in shown


def test_without_slurm_a_machine_says_so(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(MachineError, match="sbatch"):
        queue.need()


@pytest.mark.parametrize(
    ("line", "codes"),
    [
        ("srun: error: na: task 1: Killed", {1: -9}),
        ("srun: error: n-1: tasks 0-1,3: Exited with exit code 2", {0: 2, 1: 2, 3: 2}),
        ("srun: error: na: task 0: Segmentation fault (core dumped)", {0: -11}),
        ("srun: error: na: task 4: Out Of Memory", {4: -9}),
        ("srun: Job step aborted: Waiting up to 32 seconds", {}),
        ("srun: error: task 0 launch failed: Unspecified error", {}),
    ],
)
def test_srun_tells_which_ranks_ended_badly(line, codes):
    assert job.read_exits(line) == codes
