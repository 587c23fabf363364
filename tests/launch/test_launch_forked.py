"""Ranks that are forked from one warm process: the same promises as ranks that start alone."""

import os
import signal
import sys
import threading
import time

import psutil
import pytest

from mlstack.errors import Interrupted, StepError
from mlstack.launch.ranks import FORKSERVER_LOG, Program
from mlstack.launch.supervise import StopRequest, Terms, is_running, supervise
from mlstack.records.run import Failed, Finished, Stopped, read_events

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks on Linux only")

FORKED = Program("fake_ranks", preload="fractions")
PLAIN = Program("fake_ranks")


def pids(folder, ranks=2):
    """Wait until every rank is up; give their pids."""
    files = [folder / f"pid-{number}" for number in range(ranks)]
    deadline = time.monotonic() + 20
    while not all(file.is_file() and file.read_text() for file in files):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return [int(file.read_text()) for file in files]


def are_gone(processes):
    _, alive = psutil.wait_procs(processes, timeout=5)
    return not alive


def works(process):
    """Tell whether a process is neither gone nor dead and not yet buried."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def environment(folder, rank):
    return dict(
        line.split("=", 1) for line in (folder / f"environment-{rank}").read_text().splitlines()
    )


@pytest.mark.parametrize("setting", ["2,1", "", " 3 ", "many"])
def test_threads_are_read_as_openmp_does(make_run, monkeypatch, setting):
    monkeypatch.setenv("OMP_NUM_THREADS", setting)
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)  # so that the ranks set their own
    folder, spec = make_run("train", "train")

    events = list(supervise(folder, spec, resume=False, program=FORKED))

    assert isinstance(events[-1], Finished)
    found = environment(folder, 1)["OMP_NUM_THREADS"]
    assert found == setting or (not setting and int(found) >= 1)


def test_ranks_are_children_of_one_process_and_lead_sessions_of_their_own(make_run):
    folder, spec = make_run("train-long", "train-long")
    stream = supervise(folder, spec, resume=False, program=FORKED)
    next(stream)

    ranks = [psutil.Process(pid) for pid in pids(folder)]
    parents = {rank.ppid() for rank in ranks}
    sessions = [os.getsid(rank.pid) for rank in ranks]
    stream.close()

    assert len(parents) == 1
    assert os.getpid() not in parents
    assert sessions == [rank.pid for rank in ranks]
    assert are_gone(ranks)


def test_a_forked_rank_finds_what_a_plain_one_finds(make_run, monkeypatch):
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    monkeypatch.setenv("MLSTACK_TEST", "passed on")
    folder, spec = make_run("train", "train")
    found = {}
    for program in (PLAIN, FORKED):
        list(supervise(folder, spec, resume=True, program=program))
        found[program] = [
            (environment(folder, rank), (folder / f"arguments-{rank}").read_text())
            for rank in (0, 1)
        ]
    for environments in found.values():
        for one, _ in environments:
            del one["MASTER_PORT"]  # a free one of each attempt

    assert found[FORKED] == found[PLAIN]
    assert found[FORKED][1][0]["MLSTACK_TEST"] == "passed on"
    assert (folder / "logs" / "rank-1.log").read_text() == "rank 1 is up\n" * 2


def test_a_killed_forkserver_is_named_and_its_ranks_are_gone(make_run):
    folder, spec = make_run("train-long", "ignore-sigterm")
    stream = supervise(folder, spec, resume=False, program=FORKED)
    next(stream)
    ranks = [psutil.Process(pid) for pid in pids(folder)]

    os.kill(ranks[0].ppid(), signal.SIGKILL)
    with pytest.raises(StepError, match="the process that starts the ranks was killed by SIGKILL"):
        list(stream)

    assert not any(works(rank) for rank in ranks)  # at that moment, not a little later
    assert isinstance(read_events(folder)[-1], Failed)
    assert not is_running(folder)


def test_a_rank_killed_before_its_forkserver_is_the_one_that_is_named(make_run):
    folder, spec = make_run("ignore-sigterm", "train-long")
    stream = supervise(folder, spec, resume=False, program=FORKED)
    next(stream)
    ranks = [psutil.Process(pid) for pid in pids(folder)]
    server = psutil.Process(ranks[0].ppid())

    ranks[1].kill()
    time.sleep(0.3)  # until that is reported; nobody reads the report yet
    server.kill()
    with pytest.raises(StepError, match="rank 1 was killed by SIGKILL"):
        list(stream)

    assert are_gone([*ranks, server])


@pytest.mark.parametrize("preload", ["there_is_no_such_module", "threaded"])
def test_where_a_fork_is_unsafe_each_rank_imports_by_itself(make_run, preload):
    folder, spec = make_run("train-long", "die")
    (folder.parent / "threaded.py").write_text(
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    )
    program = Program("fake_ranks", preload=preload)

    with pytest.raises(StepError, match="rank 1 was killed by SIGKILL"):
        list(supervise(folder, spec, resume=False, program=program))

    said = (folder / "logs" / FORKSERVER_LOG).read_text()
    assert "the ranks import by themselves" in said


def test_a_stop_while_the_libraries_are_imported_ends_at_once(make_run):
    folder, spec = make_run("train", "train")
    (folder.parent / "slow.py").write_text("import time\ntime.sleep(60)\n")
    stop = StopRequest()
    threading.Timer(0.5, stop.ask).start()
    began = time.monotonic()

    program = Program("fake_ranks", preload="slow")
    with pytest.raises(Interrupted):
        list(supervise(folder, spec, resume=False, program=program, terms=Terms(stop=stop)))

    assert time.monotonic() - began < 20
    assert isinstance(read_events(folder)[-1], Stopped)
    assert not (folder / "pid-0").exists()


def test_a_forkserver_that_breaks_before_it_forks_shows_its_last_words(make_run):
    folder, spec = make_run("train", "train")
    (folder.parent / "broken.py").write_text("raise ValueError('no luck')\n")

    with pytest.raises(StepError, match="that starts the ranks ended with exit code 1") as caught:
        list(supervise(folder, spec, resume=False, program=Program("fake_ranks", preload="broken")))

    assert "no luck" in caught.value.__notes__[0]
