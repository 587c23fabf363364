import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import psutil
import pytest
from msgspec import structs

from mlstack.errors import BusyError, DataError, Interrupted, StepError
from mlstack.launch import verdict
from mlstack.launch.ranks import LocalRank, Program, oom_kills
from mlstack.launch.supervise import Patience, StopRequest, Terms, is_running, supervise
from mlstack.records.run import (
    EVENTS,
    EpochEnded,
    Failed,
    Finished,
    Started,
    Stopped,
    append_event,
    read_events,
    summarise,
)

PLAIN = Program("fake_ranks")
FAKE = Program("fake_ranks", preload="fractions")  # several ranks of it are forked


def watch(folder, spec, **terms):
    """Run to the end; give the events and the error, if any."""
    events, error = [], None
    try:
        events.extend(supervise(folder, spec, resume=False, program=FAKE, terms=Terms(**terms)))
    except (StepError, DataError, Interrupted) as caught:
        error = caught
    return events, error


def no_process_left(folder):
    pids = [int(p.read_text()) for p in folder.glob("pid-*")]
    assert pids
    deadline = time.monotonic() + 5
    while any(psutil.pid_exists(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(psutil.pid_exists(pid) for pid in pids)


def wait_for(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_events_come_as_the_ranks_write_them_and_end_with_finished(make_run):
    folder, spec = make_run("train", "train")

    events, error = watch(folder, spec)

    assert error is None
    assert [type(e) for e in events] == [Started, EpochEnded, EpochEnded, Finished]
    assert read_events(folder) == events
    assert no_process_left(folder)


def test_each_rank_finds_the_torchelastic_contract_in_its_environment(make_run):
    folder, spec = make_run("train", "train")

    watch(folder, spec, gpus=(1, 3))

    found = [
        dict(line.split("=", 1) for line in (folder / f"environment-{n}").read_text().splitlines())
        for n in (0, 1)
    ]
    assert [f["RANK"] for f in found] == ["0", "1"]
    assert [f["LOCAL_RANK"] for f in found] == ["0", "1"]
    assert {f["WORLD_SIZE"] for f in found} == {"2"}
    assert len({f["MASTER_PORT"] for f in found}) == 1
    assert found[0]["TORCHELASTIC_RUN_ID"] == spec.id
    assert "TORCHELASTIC_USE_AGENT_STORE" not in found[0]
    assert found[1]["CUDA_VISIBLE_DEVICES"] == "1,3"


def test_a_run_on_the_cpu_sees_no_gpu(make_run):
    folder, spec = make_run("train")

    watch(folder, spec)

    assert "CUDA_VISIBLE_DEVICES=\n" in (folder / "environment-0").read_text() + "\n"


def test_resume_is_passed_on_and_old_events_are_not_told_again(make_run):
    folder, spec = make_run("train")
    append_event(folder, Stopped(run=spec.id, at=1.0, step=3, reason="before"))

    events = list(supervise(folder, spec, resume=True, program=FAKE))

    assert (folder / "arguments-0").read_text().endswith("--resume")
    assert not any(isinstance(e, Stopped) for e in events)
    assert summarise(folder).state == "finished"


def test_a_half_written_line_of_a_crash_does_not_spoil_the_next_attempt(make_run):
    folder, spec = make_run("train")
    (folder / EVENTS).write_bytes(b'{"kind":"run.sta')

    events, error = watch(folder, spec)

    assert error is None
    assert read_events(folder) == events


def test_a_rank_that_raises_gives_its_own_error_class_and_traceback(make_run):
    folder, spec = make_run("train-long", "raise")

    events, error = watch(folder, spec)

    assert isinstance(error, DataError)
    assert error.problem == "ValueError: no"
    assert isinstance(events[-1], Failed)
    assert events[-1].rank == 1
    assert summarise(folder).state == "failed"
    assert no_process_left(folder)


@pytest.mark.parametrize("behaviour", ["complain", "complain-early"])
def test_a_killed_rank_is_named_although_the_others_complain_of_its_silence(make_run, behaviour):
    folder, spec = make_run(behaviour, "die")

    events, error = watch(folder, spec)

    assert isinstance(error, StepError)
    assert "rank 1 was killed by SIGKILL" in error.problem
    assert "out of memory" in error.problem
    assert read_events(folder)[-1] == events[-1]
    assert "rank 1 is up" in events[-1].traceback


def test_a_killed_rank_ends_the_run_within_a_second(make_run):
    folder, spec = make_run("ignore-sigterm", "train-long")
    stream = supervise(folder, spec, resume=False, program=FAKE)
    next(stream)
    wait_for((folder / "pid-1").is_file)

    os.kill(int((folder / "pid-1").read_text()), signal.SIGKILL)
    killed_at = time.time()
    with pytest.raises(StepError, match="rank 1 was killed"):
        list(stream)

    assert read_events(folder)[-1].at - killed_at < 1
    assert no_process_left(folder)


def test_the_kernels_own_count_tells_that_memory_was_short(make_run, tmp_path):
    counters = tmp_path / "vmstat"
    counters.write_text("nr_free_pages 17\noom_kill 3\noom_kill_other 9\n")
    folder, spec = make_run("die")
    rank = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    rank.kill()
    rank.wait()

    known = LocalRank(0, rank, folder / "log", kills_before=oom_kills() - 1)
    unknown = LocalRank(0, rank, folder / "log")
    said = [verdict.first_failure(spec.id, [one], [one.code], []) for one in (known, unknown)]

    assert (oom_kills(counters), oom_kills(tmp_path / "none")) == (3, 0)
    assert said[0].problem == "rank 0 was killed by SIGKILL: the kernel was out of memory"
    assert said[1].problem.endswith("(was the machine out of memory?)")


def test_an_uncaught_error_shows_the_last_lines_of_the_log(make_run):
    folder, spec = make_run("crash")

    events, error = watch(folder, spec)

    assert error.problem == "rank 0 ended with exit code 1"
    assert "nobody caught this" in events[-1].traceback


def test_a_hanging_rank_is_named_and_ended(make_run):
    folder, spec = make_run("train-long", "hang")

    _, error = watch(folder, spec, patience=Patience(hang_s=1))

    assert error.problem.startswith("rank 1 has not moved for 1 s")
    assert no_process_left(folder)


def test_a_rank_that_leaves_early_is_named(make_run):
    folder, spec = make_run("train-long", "leave")

    _, error = watch(folder, spec, patience=Patience(leave_s=0.3))

    assert error.problem == "rank 1 ended with exit code 0 before the run was over"


def test_a_worker_that_says_nothing_at_its_end_has_failed(make_run):
    folder, spec = make_run("leave")

    _, error = watch(folder, spec)

    assert error.problem == "the worker ended with exit code 0 before the run was over"


def test_a_stop_request_saves_and_says_how_to_go_on(make_run):
    folder, spec = make_run("train-long", "train-long")
    stop = StopRequest()
    threading.Timer(0.6, stop.ask).start()

    events, error = watch(folder, spec, stop=stop)

    assert isinstance(error, Interrupted)
    assert error.exit_code == 143
    assert spec.id in error.hint
    assert isinstance(events[-1], Stopped)
    assert events[-1].step == 7
    assert no_process_left(folder)


def test_a_rank_that_ignores_sigterm_is_killed_when_its_time_is_over(make_run):
    folder, spec = make_run("ignore-sigterm")
    stop = StopRequest()
    threading.Timer(0.6, stop.ask).start()

    events, error = watch(folder, spec, stop=stop, patience=Patience(stop_s=0.5))

    assert isinstance(error, Interrupted)
    assert events[-1].reason == "killed before it could save"
    assert no_process_left(folder)


def test_a_check_that_is_stopped_is_not_waited_for(make_run):
    folder, spec = make_run("ignore-sigterm", "ignore-sigterm")
    stop = StopRequest()
    threading.Timer(0.6, stop.ask).start()

    started = time.monotonic()
    _, error = watch(folder, structs.replace(spec, mode="check"), stop=stop)

    assert isinstance(error, Interrupted)
    assert time.monotonic() - started < 20  # a run that trains has a minute to save itself
    assert no_process_left(folder)


def test_a_second_request_kills_at_once(make_run):
    folder, spec = make_run("ignore-sigterm")
    stop = StopRequest()
    threading.Timer(0.6, stop.ask).start()
    threading.Timer(0.8, stop.ask).start()

    started = time.monotonic()
    _, error = watch(folder, spec, stop=stop)

    assert isinstance(error, Interrupted)
    assert time.monotonic() - started < 20


def test_a_listener_that_goes_away_leaves_a_saved_run_and_no_process(make_run):
    folder, spec = make_run("train-long")
    stream = supervise(folder, spec, resume=False, program=FAKE)
    next(stream)

    stream.close()

    assert no_process_left(folder)
    assert isinstance(read_events(folder)[-1], Stopped)
    assert not is_running(folder)


def test_two_processes_cannot_run_the_same_run(make_run):
    folder, spec = make_run("train-long")
    stream = supervise(folder, spec, resume=False, program=FAKE)
    next(stream)

    with pytest.raises(BusyError):
        next(supervise(folder, spec, resume=True, program=FAKE))

    assert is_running(folder)
    stream.close()


FRONT = """
import sys
from pathlib import Path
from mlstack.launch.ranks import Program
from mlstack.launch.ranks import Program
from mlstack.launch.supervise import supervise
from mlstack.errors import Interrupted
from mlstack.records.base import read
from mlstack.records.run import SPEC, RunSpec
folder = Path(sys.argv[1])
program = Program("fake_ranks", *sys.argv[2:])
try:
    list(supervise(folder, read(folder / SPEC, RunSpec), resume=False, program=program))
except Interrupted as error:
    sys.exit(error.exit_code)
"""


@pytest.fixture(params=[PLAIN, FAKE], ids=["plain", "forked"])
def front(make_run, request):
    """A process that supervises two ranks."""
    folder, _ = make_run("train-long", "train-long")
    words = [request.param.preload] if request.param.preload else []
    process = subprocess.Popen([sys.executable, "-c", FRONT, str(folder), *words])
    wait_for(lambda: (folder / "pid-0").is_file() and (folder / "pid-1").is_file())
    yield folder, process
    with suppress(ProcessLookupError):
        process.kill()
    process.wait()


def test_no_rank_outlives_a_supervisor_that_was_killed(front):
    folder, process = front

    process.kill()
    process.wait()

    assert no_process_left(folder)
    assert not is_running(folder)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_to_the_supervisor_saves_the_run(front, number, code):
    folder, process = front

    process.send_signal(number)

    assert process.wait(timeout=20) == code
    assert isinstance(read_events(folder)[-1], Stopped)
    assert no_process_left(folder)
