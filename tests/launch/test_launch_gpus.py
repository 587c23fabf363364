import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import ExitStack, closing

import psutil
import pytest
from fake_gpus import lease

from mlstack.errors import BusyError, MachineError
from mlstack.launch.gpus import FakeGpus, Use, parse, parse_uses, visible
from mlstack.launch.leases import claim, overview

LISTING = "0, GPU-aaa, NVIDIA GeForce RTX 4090, 24564\n1, GPU-bbb, NVIDIA H200, 143771\n"


@pytest.fixture
def table(tmp_path):
    return tmp_path / "state" / "gpus.db"


def test_what_nvidia_smi_prints_is_understood():
    found = parse(LISTING)

    assert [(g.index, g.uuid, g.memory_mib) for g in found] == [
        (0, "GPU-aaa", 24564),
        (1, "GPU-bbb", 143771),
    ]


@pytest.mark.parametrize(
    ("setting", "indices"),
    [
        (None, [0, 1]),
        ("1", [1]),
        ("1, 0", [0, 1]),
        ("GPU-aaa", [0]),
        ("GPU-b", [1]),  # how a uuid begins, as CUDA reads it
        ("GPU-", []),  # so do both
        ("", []),
        ("-1", []),
        ("1,-1,0", [1]),  # what follows -1 is hidden
        ("NoDevFiles", []),
    ],
)
def test_cuda_visible_devices_is_respected(setting, indices):
    assert [g.index for g in visible(parse(LISTING), setting)] == indices


def test_auto_takes_all_that_are_there_and_none_without_any(table):
    with lease("auto", "run a", machine=FakeGpus("A", "B"), table=table) as taken:
        assert [g.index for g in taken] == [0, 1]
    with lease("auto", "run a", machine=FakeGpus(), table=table) as taken:
        assert taken == []


def test_gpus_that_are_not_there_are_refused_with_the_number_found(table):
    with (
        pytest.raises(MachineError, match="4 GPUs were asked for and this machine has 1") as few,
        lease(4, "run a", machine=FakeGpus("A"), table=table),
    ):
        pass
    assert "--gpus 1" in few.value.hint
    with (
        pytest.raises(
            MachineError, match="1 GPU was asked for and none can be used: this is a fake"
        ),
        lease(1, "run a", machine=FakeGpus(), table=table),
    ):
        pass


def test_two_runs_never_share_a_gpu(table):
    machine = FakeGpus("A", "B")

    with (
        lease(1, "run a", machine=machine, table=table) as first,
        lease(1, "run b", machine=machine, table=table) as second,
    ):
        assert {g.index for g in (*first, *second)} == {0, 1}
        with (
            pytest.raises(BusyError, match="run a"),
            lease(1, "run c", machine=machine, table=table),
        ):
            pass
    with lease([1], "run d", machine=machine, table=table) as again:
        assert [g.index for g in again] == [1]


def test_a_lease_of_a_process_that_died_counts_for_nothing(table):
    machine = FakeGpus("A")
    with lease(1, "run a", machine=machine, table=table):
        change(table, "UPDATE gpu_leases SET started = 1.0")  # that pid was somebody else's

        with lease(1, "run b", machine=machine, table=table) as taken:
            assert len(taken) == 1


def test_a_lease_of_another_machine_counts_as_long_as_its_heart_beats(table):
    machine = FakeGpus("A")
    with lease(1, "run a", machine=machine, table=table):
        change(table, "UPDATE gpu_leases SET place = 'elsewhere', pid = 1")
        with pytest.raises(BusyError), lease(1, "run b", machine=machine, table=table):
            pass
        change(table, "UPDATE gpu_leases SET heartbeat = heartbeat - 3600")

        with lease(1, "run b", machine=machine, table=table) as taken:
            assert len(taken) == 1


def test_a_clock_that_is_set_takes_no_gpu_from_a_process_that_lives(table, monkeypatch):
    machine = FakeGpus("A")
    with lease(1, "run a", machine=machine, table=table):
        # What /proc/stat says of the boot moves with the clock, and psutil's start times with it.
        earlier = psutil.Process.create_time
        monkeypatch.setattr(psutil.Process, "create_time", lambda one: earlier(one) + 3600)

        with pytest.raises(BusyError), lease(1, "run b", machine=machine, table=table):
            pass


def test_a_lease_from_before_the_boot_counts_for_nothing(table, monkeypatch):
    machine, now = FakeGpus("A"), time.time()
    monkeypatch.setattr(psutil, "boot_time", lambda: now - 60)
    place = f"UPDATE gpu_leases SET place = '{socket.gethostname()} pid:[1] another-boot'"
    with lease(1, "run a", machine=machine, table=table):
        change(table, f"{place}, heartbeat = {now - 50}")  # a namesake that shares the home
        with pytest.raises(BusyError), lease(1, "run b", machine=machine, table=table):
            pass
        change(table, f"{place}, heartbeat = {now - 70}")

        with lease(1, "run b", machine=machine, table=table) as taken:
            assert len(taken) == 1


def test_a_home_that_cannot_be_written_is_named_with_what_to_set(tmp_path):
    (tmp_path / "file").touch()
    garbage = tmp_path / "gpus.db"
    garbage.write_text("not a database, and long enough to be taken for one" * 9)

    for table, words, hint in (
        (tmp_path / "file" / "gpus.db", "cannot be kept", "XDG_STATE_HOME"),
        (tmp_path, "unable to open", "XDG_STATE_HOME"),
        (garbage, "is not a database", f"rm {garbage}"),
    ):
        with (
            pytest.raises(MachineError, match=words) as caught,
            lease(1, "run a", machine=FakeGpus("A"), table=table),
        ):
            pass
        assert hint in caught.value.hint


def test_without_a_home_the_cpu_needs_no_lease(monkeypatch):
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as where nobody has this uid

    with lease("auto", "run a", machine=FakeGpus()) as taken:
        assert taken == []
    with pytest.raises(MachineError, match="your home"), lease(1, "b", machine=FakeGpus("A")):
        pass


def test_a_lease_that_cannot_be_given_back_spoils_no_work(table):
    with lease(1, "run a", machine=FakeGpus("A"), table=table):
        table.write_text("somebody wrote over it" * 99)


def change(table, statement):
    with closing(sqlite3.connect(table)) as rows, rows:
        rows.execute(statement)


HOLDS = """
import sys, time
from pathlib import Path
from mlstack.launch.gpus import FakeGpus
from mlstack.launch.leases import claim
with claim(1, sys.argv[2], machine=FakeGpus("A"), table=Path(sys.argv[1])) as claimed:
    for blocked in claimed.wait(0.05):
        print("waits", flush=True)
    print("has it", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def start(table):
    """Start processes that take the one GPU, or wait for it, and keep it for a minute."""
    with ExitStack() as stack:

        def begin(what, says):
            words = [sys.executable, "-c", HOLDS, str(table), what]
            process = stack.enter_context(
                subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
            )
            stack.callback(process.kill)
            assert process.stdout.readline().strip() == says
            return process

        yield begin


def until(process, says):
    return any(line.strip() == says for line in process.stdout)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_gpu_goes_from_a_process_that_ends_to_the_one_that_waits_longest(start, table, number):
    first, second, third = start("a", "has it"), start("b", "waits"), start("c", "waits")

    first.send_signal(number)

    assert until(second, "has it")
    holders, waiters = overview(table)
    assert [str(one) for one in holders] == [f"b (process {second.pid})"]
    assert [str(one) for one in waiters] == [f"c (process {third.pid})"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_who_is_gone_from_the_queue_is_waited_for_by_nobody(start, table, number):
    first, second, third = start("a", "has it"), start("b", "waits"), start("c", "waits")

    second.send_signal(number)
    second.wait()
    first.kill()

    assert until(third, "has it")
    assert overview(table)[1] == []


def test_nobody_is_served_before_an_earlier_one_who_would_take_the_same_gpu(table):
    machine = FakeGpus("A", "B")

    with (
        lease([0], "has A", machine=machine, table=table),
        claim(2, "wants both", machine=machine, table=table) as both,
        claim([1], "wants B", machine=machine, table=table) as late,
    ):
        first = next(both.wait(0))
        second = next(late.wait(0))
        with (
            pytest.raises(BusyError, match="2 waiting before"),
            lease([1], "will not wait", machine=machine, table=table),
        ):
            pass

    assert (first.free, first.ahead) == (1, ())
    assert second.free == 1
    assert "wants both" in second.ahead[0]
    assert overview(table) == ([], [])


def test_who_wants_another_gpu_need_not_wait(table):
    machine = FakeGpus("A", "B")

    with (
        lease([0], "has A", machine=machine, table=table),
        claim([0], "wants A", machine=machine, table=table) as waits,
    ):
        next(waits.wait(0))

        with lease([1], "wants B", machine=machine, table=table) as taken:
            assert [gpu.index for gpu in taken] == [1]


def test_a_gpu_that_somebody_uses_without_a_lease_is_not_free(table):
    machine = FakeGpus("A", "B", "C")
    machine.used = [
        Use("GPU-0", 9000, 77, "python"),
        Use("GPU-1", 120, 78, "desktop"),
        Use("GPU-2", 9000),
    ]

    with lease("auto", "run a", machine=machine, table=table) as taken:
        assert [gpu.index for gpu in taken] == [1]
    with (
        pytest.raises(BusyError, match=r"python \(process 77\) with 9000 MiB and no lease"),
        lease([0], "run b", machine=machine, table=table),
    ):
        pass


def test_what_nvidia_smi_says_of_uses_is_understood():
    processes = "GPU-aaa, 4711, 9216, /usr/bin/python3, with a comma\nGPU-bbb, 12, [N/A], x\n"
    memory = "GPU-aaa, 9300\nGPU-bbb, 20000\n"

    found = parse_uses(processes, memory)

    assert [(use.uuid, use.memory_mib, use.pid) for use in found] == [
        ("GPU-aaa", 9216, 4711),
        ("GPU-bbb", 0, 12),
        ("GPU-aaa", 84, 0),
        ("GPU-bbb", 20000, 0),
    ]
    assert [use.uuid for use in found if use.is_in_the_way] == ["GPU-aaa", "GPU-bbb"]
