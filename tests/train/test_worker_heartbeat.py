"""How long a rank may be silent, and that the one that hangs is named."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mlstack.errors import StepError
from mlstack.launch.supervise import supervise
from mlstack.records import base
from mlstack.records.run import SPEC, Failed, RunSpec, read_events
from mlstack.train.worker.heartbeat import UNKNOWN, WARM_UP, Pace

Plan = Callable[..., Path]

HANGS = """
import os, time
from my_project.model import Net as Whole

class Net(Whole):
    def training_step(self, batch, batch_idx):
        if os.environ["RANK"] == "1" and self.global_step == 25:
            time.sleep(600)
        return super().training_step(batch, batch_idx)
"""


def pace_of(*steps_s: float) -> Pace:
    pace = Pace()
    for step_s in steps_s:
        pace.add(step_s)
    return pace


def test_the_first_steps_teach_nothing() -> None:
    pace = pace_of(*[200.0] * WARM_UP)

    assert pace.limits == UNKNOWN
    pace.add(0.1)
    assert pace.limits == (pytest.approx(8.8), pytest.approx(63))


def test_regular_steps_may_take_three_medians_and_some_seconds() -> None:
    assert pace_of(*[4.0] * 40).limits[0] == pytest.approx(20.5)


def test_where_steps_differ_the_longest_ones_count() -> None:
    steps = [0.1] * WARM_UP + [0.1, 0.1, 0.1, 30.0] * 10

    assert pace_of(*steps).limits[0] == pytest.approx(60)


def test_a_rank_that_computes_never_gets_less_than_one_that_does_not() -> None:
    idle_s, busy_s = pace_of(*[400.0] * 40).limits

    assert busy_s >= idle_s > 1000


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_of_two_ranks_the_one_that_hangs_in_a_step_is_named_with_its_stack(plan: Plan) -> None:
    folder = plan("hangs", "model.class=hanging:Net", "train.batch_size=8", ranks=2)
    (folder.parents[1] / "hanging.py").write_text(HANGS)
    spec = base.read(folder / SPEC, RunSpec)

    with pytest.raises(StepError, match=r"rank 1 has not moved for \d+ s in a training step"):
        list(supervise(folder, spec, resume=False))

    failed = read_events(folder)[-1]
    assert isinstance(failed, Failed)
    assert "in training_step" in failed.traceback
