"""`mlstack train` waits for GPUs that others use, and says why."""

import os

import pytest
from fake_gpus import lease, with_driver

from mlstack.errors import BusyError, MachineError
from mlstack.launch.gpus import FakeGpus
from mlstack.launch.leases import claim
from mlstack.launch.plan import PlanOptions
from mlstack.records.dataset import DatasetVersion
from mlstack.records.run import CodeVersion, Environment, RunSpec
from mlstack.train.places import PLACES, Room
from mlstack.train.view import draw


def spec_of(root, ranks, gpus):
    return RunSpec(
        id="20260102-030405-abcd",
        created="2026-01-02T03:04:05Z",
        root=str(root),
        command=["mlstack", "train"],
        config={},
        dataset=DatasetVersion(name="digits", source="data/digits", md5="0.dir"),
        code=CodeVersion(),
        environment=Environment(python="3", platform="test", cpu_count=1),
        seed=1,
        classes=[],
        ranks=ranks,
        gpus=gpus,
    )


def test_who_waits_is_told_why_and_gets_the_gpus_when_they_are_free(tmp_path):
    machine, table = FakeGpus("A", "B"), tmp_path / "gpus.db"
    with claim(2, "run b", machine=machine, table=table) as claimed:
        room = Room(PlanOptions(), claimed, 2)
        with lease(1, "run a", machine=machine, table=table):
            waiting = room.taken(waits=True)
            said = draw(next(waiting))

        assert list(waiting) == []
        assert [gpu.name for gpu in room.leased] == ["A", "B"]
        assert room.options.gpus == tuple(room.leased)
    assert said.splitlines()[0].startswith("waiting for GPUs: 1 of 2 are free, number 1 in")
    assert "used by run a (process" in said


def test_a_run_of_several_nodes_goes_on_here_with_a_gpu_for_each_rank(tmp_path, monkeypatch):
    environment = with_driver(tmp_path, "A", "B", "C")
    monkeypatch.setenv("PATH", environment["PATH"])
    monkeypatch.setenv("XDG_STATE_HOME", environment["XDG_STATE_HOME"])
    monkeypatch.syspath_prepend(environment["PYTHONPATH"].split(os.pathsep)[0])
    began = spec_of(tmp_path, ranks=2, gpus=[0])  # two nodes, a GPU each
    more = spec_of(tmp_path, ranks=4, gpus=[0, 1])

    with PLACES["local"].hold_again(None, began) as room:
        list(room.taken(waits=False))
        assert len(room.leased) == 2
        with (
            PLACES["local"].hold_again(None, began) as other,
            pytest.raises(BusyError) as busy,
        ):
            list(other.taken(waits=False))
    with pytest.raises(MachineError) as lacking, PLACES["local"].hold_again(None, more):
        pass

    for refused in (busy.value, lacking.value):
        assert f"--from-run {began.id} --gpus 0" in refused.hint  # --resume takes no --gpus


def test_who_does_not_wait_is_refused(tmp_path):
    machine, table = FakeGpus("A"), tmp_path / "gpus.db"

    with (
        lease(1, "run a", machine=machine, table=table),
        claim(1, "run b", machine=machine, table=table) as claimed,
        pytest.raises(BusyError, match="run a"),
    ):
        list(Room(PlanOptions(), claimed, 1).taken(waits=False))
