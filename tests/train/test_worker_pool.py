"""A student learns the teacher's answers to examples that nobody labeled."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from one_rank import assert_same, epochs_of, last, run

from mlstack.config.schema import Config
from mlstack.errors import ConfigError
from mlstack.records import base
from mlstack.records.dataset import EXAMPLES, UNLABELED, read_examples, write_examples
from mlstack.records.layout import Layout
from mlstack.records.run import SPEC, Finished, RunSpec, Stopped
from mlstack.train.worker.build import build_model
from mlstack.train.worker.pool import Pool
from mlstack.train.worker.ranks import Job, Rank

Plan = Callable[..., Path]
KEPT = 40  # labels of the student

pytestmark = pytest.mark.filterwarnings("ignore")

STOPPING = """
import os, signal
from torch import nn
from my_project.model import Net

class Stopping(Net):
    def __init__(self, stop_at=-1, **rest):
        super().__init__(**rest)
        self.stop_at = stop_at
    def on_train_batch_start(self, batch, batch_idx):
        assert int(batch[1].min()) >= 0 and len(batch[1]) <= 20
        if self.global_step == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.fixture(scope="module")
def settings(plan: Plan) -> tuple[str, ...]:
    """Settings of a teacher that has been trained, and of its students."""
    teacher = plan("teacher", "train.epochs=8")
    root = Path(base.read(teacher / SPEC, RunSpec).root)
    (root / "stopping.py").write_text(STOPPING)
    run(teacher)
    runs = Layout(root).runs
    runs.mkdir(parents=True)
    (runs / "teacher").symlink_to(teacher)
    return ("model.class=stopping:Stopping", "model.args={width: 8}", "train.batch_size=20")


def taught(weight: float = 0.5) -> str:
    return f"train.distill={{run: teacher, weight: {weight}, unlabeled: true}}"


def job_of(folder: Path, rank: Rank | None = None) -> Job:
    spec = base.read(folder / SPEC, RunSpec)
    return Job(folder, spec, Config.model_validate(spec.config), rank or Rank())


def unlabel(folder: Path) -> Path:
    """Leave a run few labels in train, and the rest of train as what nobody labeled."""
    table = read_examples(folder / EXAMPLES)
    of_train = pc.equal(table["split"], "train")
    train, others = table.filter(of_train), table.filter(pc.invert(of_train))
    labeled, rest = train.slice(0, KEPT), train.slice(KEPT)
    count = rest.num_rows
    empty = {"label": pa.array([""] * count), "target": pa.array([0] * count, pa.int32())}
    for name, values in (empty | {"split": pa.array(["test"] * count)}).items():
        rest = rest.set_column(rest.column_names.index(name), name, values)
    val = others.filter(pc.equal(others["split"], "val"))
    write_examples(folder / EXAMPLES, pa.concat_tables([labeled, others]))
    write_examples(folder / UNLABELED, pa.concat_tables([labeled, val, rest]))
    return folder


def test_a_student_of_a_pool_goes_on_to_the_very_same_weights(
    plan: Plan, settings: tuple[str, ...]
) -> None:
    sets = (*settings, taught(), "train.epochs=4", "train.accumulate=2", "train.ema=0.9")
    whole = unlabel(plan("whole", *sets))
    broken = unlabel(plan("broken", *sets, "model.args.stop_at=5"))

    run(whole)
    run(broken)
    stopped = last(broken, Stopped)
    run(broken, resume=True)

    assert 0 < stopped.step < last(whole, Finished).step
    assert_same(broken, whole)
    assert epochs_of(broken) == epochs_of(whole)


def test_what_nobody_labeled_makes_the_student_better(
    plan: Plan, settings: tuple[str, ...]
) -> None:
    long = (*settings, "train.epochs=25")
    few = unlabel(plan("few", *long, "train.distill={run: teacher}"))
    pool = unlabel(plan("pool", *long, taught()))

    run(few)
    run(pool)

    losses = [last(folder, Finished).metrics["test/loss"] for folder in (few, pool)]
    assert losses[1] < losses[0]


def test_all_ranks_together_take_each_example_of_a_pass_once(
    plan: Plan, settings: tuple[str, ...]
) -> None:
    folder = unlabel(plan("shared", *settings, taught()))
    pools = [
        Pool(job_of(folder, Rank(number, 2, 2)), build_model(job_of(folder))) for number in (0, 1)
    ]
    size = len(pools[0]._loader.dataset)

    steps = [pool._places(step) for step in range(size) for pool in pools]

    taken = [place for step in steps for place in step]
    assert Counter(taken[:size]) == Counter(range(size))
    assert taken[:size] != taken[size : 2 * size]
    assert {len(step) for step in steps} == {10}
    assert pools[0]._places(3) == steps[6]


def test_a_pool_is_what_the_teacher_says_of_it(plan: Plan, settings: tuple[str, ...]) -> None:
    folder = unlabel(plan("said", *settings, taught()))
    job = job_of(folder)
    teacher = build_model(job_of(folder.parent / "teacher")).eval()
    pool = Pool(job, teacher)

    answers = pool._asked(teacher)

    inputs = pool._inputs([3, 5], teacher)
    assert torch.allclose(answers[[3, 5]], teacher(inputs), atol=1e-5)
    table = read_examples(folder / UNLABELED)
    assert len(answers) == table["split"].to_pylist().count("test")


def test_privacy_and_a_pool_do_not_go_together(plan: Plan) -> None:
    with pytest.raises(ConfigError) as raised:
        plan("private", taught(), "train.privacy={epsilon: 8}")

    assert "privacy and distill.unlabeled do not go together" in str(raised.value.mistakes)
