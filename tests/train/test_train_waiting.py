"""`mlstack train` waits for GPUs that others use, and says why."""

import pytest
from fake_gpus import lease

from mlstack.errors import BusyError
from mlstack.launch.gpus import FakeGpus
from mlstack.launch.leases import claim
from mlstack.launch.plan import PlanOptions
from mlstack.train.places import Room
from mlstack.train.view import draw


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


def test_who_does_not_wait_is_refused(tmp_path):
    machine, table = FakeGpus("A"), tmp_path / "gpus.db"

    with (
        lease(1, "run a", machine=machine, table=table),
        claim(1, "run b", machine=machine, table=table) as claimed,
        pytest.raises(BusyError, match="run a"),
    ):
        list(Room(PlanOptions(), claimed, 1).taken(waits=False))
