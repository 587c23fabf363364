import os
import sqlite3

import pytest

from mlstack.errors import BusyError, MachineError
from mlstack.launch.gpus import FakeGpus, lease, parse, visible

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
    ("setting", "indices"), [(None, [0, 1]), ("1", [1]), ("GPU-aaa", [0]), ("", []), ("-1", [])]
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
        pytest.raises(MachineError, match="4 GPUs were asked for and this machine has 1"),
        lease(4, "run a", machine=FakeGpus("A"), table=table),
    ):
        pass
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
        pass
    with sqlite3.connect(table) as rows:
        rows.execute(
            "INSERT INTO leases VALUES ('GPU-0', ?, 1.0, 'an older process')", [os.getpid()]
        )
    rows.close()

    with lease(1, "run b", machine=machine, table=table) as taken:
        assert len(taken) == 1
