"""What a network gets for training alone changes what it should, and can be gone on with."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from one_rank import assert_same, epochs_of, last, run

from mlstack.config.schema import Config
from mlstack.errors import ConfigError, MachineError
from mlstack.records import base
from mlstack.records.layout import Layout
from mlstack.records.run import (
    BEST,
    CHECKPOINTS,
    LAST,
    SPEC,
    Finished,
    RunSpec,
    Stopped,
)
from mlstack.train.worker import equip
from mlstack.train.worker.build import batch_size, build_model
from mlstack.train.worker.ranks import Job, Rank

Plan = Callable[..., Path]

pytestmark = pytest.mark.filterwarnings("ignore")

BLOCKS = """
import os, signal, torch
from torch import nn
from my_project.model import Net

CALLS = []

class Block(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm = nn.BatchNorm2d(outputs)
        self.drop = nn.Dropout(0.2)
    def forward(self, x):
        CALLS.append(1)
        return self.drop(self.norm(self.conv(x)).relu())

class Deep(Net):
    def __init__(self, stop_at=-1, class_weights=None, **rest):
        super().__init__(class_weights=class_weights, **rest)
        self.stop_at = stop_at
        self.body = nn.Sequential(
            Block(1, 8), Block(8, 8), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 10)
        )
    def on_train_batch_start(self, batch, batch_idx):
        if self.global_step == self.stop_at:
            self.stop_at = -1  # once, though a step has several parts
            os.kill(os.getpid(), signal.SIGTERM)

class Flat(Net):
    def __init__(self, **rest):
        super().__init__(**rest)
        self.body = nn.Linear(256, 10)
    def forward(self, images):
        return self.body(images.flatten(1).float())

class Around(Flat):
    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.body(batch[0].flatten(1).float()), batch[1])
"""


@pytest.fixture(scope="module")
def deep(plan: Plan) -> tuple[str, ...]:
    """Settings of a network of blocks."""
    root = Path(base.read(plan("where") / SPEC, RunSpec).root)
    (root / "blocks.py").write_text(BLOCKS)
    return ("model.class=blocks:Deep", "model.args={}", "train.batch_size=16", "train.epochs=2")


def weights(folder: Path, name: str = LAST, key: str = "state_dict") -> dict[str, torch.Tensor]:
    found = torch.load(folder / CHECKPOINTS / name, weights_only=True)[key]
    assert isinstance(found, dict)
    return found


def test_computing_activations_twice_changes_no_bit(plan: Plan, deep: tuple[str, ...]) -> None:
    plain, twice = plan("kept", *deep), plan("twice", *deep, "train.checkpoint_activations=true")
    run(plain)
    import blocks

    before = len(blocks.CALLS)
    run(twice)
    calls_of_twice = len(blocks.CALLS) - before

    assert_same(twice, plain)
    assert epochs_of(twice) == epochs_of(plain)
    assert calls_of_twice > 1.5 * before


def test_a_network_without_blocks_cannot_compute_twice(plan: Plan, deep: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="`Flat` has no blocks"):
        run(plan("flat", *deep, "model.class=blocks:Flat", "train.checkpoint_activations=true"))


def test_a_batch_in_parts_trains_as_the_whole_batch(plan: Plan, deep: tuple[str, ...]) -> None:
    sets = (*deep, "model.class=blocks:Flat", "model.args.lr=0.001", "train.batch_size=20")
    whole, parts = plan("whole", *sets), plan("parts", *sets, "train.accumulate=4")

    run(whole)
    run(parts)

    assert batch_size(job_of(parts)) == 5
    assert last(parts, Finished).step == last(whole, Finished).step
    for name, tensor in weights(parts).items():
        assert torch.allclose(tensor, weights(whole)[name], rtol=1e-3, atol=1e-5), name


def test_a_batch_that_does_not_divide_says_what_would(plan: Plan) -> None:
    with pytest.raises(ConfigError, match="cannot share evenly in 3 parts") as raised:
        batch_size(job_of(plan("odd", "train.accumulate=3")))

    assert raised.value.hint == "write 63"


def test_the_average_is_what_is_judged_kept_and_tested(plan: Plan, deep: tuple[str, ...]) -> None:
    folder = plan("ema", *deep, "train.ema=0.9")

    run(folder)

    saved = torch.load(folder / CHECKPOINTS / BEST, weights_only=True)["state_dict"]
    finished = last(folder, Finished)
    job = job_of(folder)
    model = build_model(job)
    model.load_state_dict(saved)
    loss = measured(job, model.eval())
    assert finished.metrics["val/loss"] == pytest.approx(loss, rel=1e-4)
    plain = plan("no-ema", *deep)
    run(plain)
    assert not torch.equal(saved["body.0.conv.weight"], weights(plain, BEST)["body.0.conv.weight"])
    assert int(saved["body.0.norm.num_batches_tracked"]) > 0


def test_everything_at_once_goes_on_to_the_very_same_weights(
    plan: Plan, deep: tuple[str, ...]
) -> None:
    teacher = plan("teacher", *deep)
    run(teacher)
    at_home(teacher)
    sets = (
        *deep,
        "train.epochs=3",
        "train.accumulate=2",
        "train.ema=0.95",
        "train.checkpoint_activations=true",
        "train.class_weights=balanced",
        "data.sampling=balanced",
        "data.augment=strong",
        "train.distill={run: teacher, weight: 0.4}",
    )
    whole, broken = plan("all", *sets), plan("all-broken", *sets, "model.args.stop_at=13")

    run(whole)
    run(broken)
    stopped = last(broken, Stopped)
    run(broken, resume=True)

    assert stopped.step == 14
    assert_same(broken, whole)
    assert epochs_of(broken) == epochs_of(whole)
    assert last(broken, Finished).metrics == last(whole, Finished).metrics


def test_a_student_learns_what_its_teacher_says(plan: Plan, deep: tuple[str, ...]) -> None:
    teacher = plan("wise", *deep, "train.epochs=6")
    run(teacher)
    at_home(teacher)
    apart, near = (
        plan(f"student-{share}", *deep, f"train.distill={{run: wise, weight: {share}}}")
        for share in (0.0001, 1.0)
    )

    for folder in (apart, near):
        run(folder)

    distances = [[m["train/distill"] for _, m, _ in epochs_of(f)] for f in (apart, near)]
    assert distances[1][-1] < distances[0][-1]
    assert distances[1][-1] < distances[1][0]


def test_a_step_that_goes_round_the_network_cannot_be_taught(
    plan: Plan, deep: tuple[str, ...]
) -> None:
    flat = (*deep, "model.class=blocks:Flat")
    teacher = plan("straight", *flat)
    run(teacher)
    at_home(teacher)

    with pytest.raises(ConfigError, match="does not call the network by self"):
        run(plan("round", *deep, "model.class=blocks:Around", "train.distill={run: straight}"))


@pytest.mark.slow
def test_a_compiled_network_learns_the_same(plan: Plan, deep: tuple[str, ...]) -> None:
    if not any(shutil.which(name) for name in equip.COMPILERS):
        pytest.skip("there is no C++ compiler")
    sets = (*deep, "model.class=blocks:Flat", "model.args.lr=0.001", "train.batch_size=20")
    plain, compiled = plan("eager", *sets), plan("compiled", *sets, "train.compile=true")

    run(plain)
    run(compiled)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()  # by which a rank knows that steps may be long

    assert weights(compiled).keys() == weights(plain).keys()
    for name, tensor in weights(compiled).items():
        assert torch.allclose(tensor, weights(plain)[name], rtol=1e-3, atol=1e-5), name


def test_without_a_compiler_it_is_said_at_once(
    plan: Plan, deep: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")

    with pytest.raises(MachineError, match=r"needs a C\+\+ compiler"):
        run(plan("no-compiler", *deep, "train.compile=true"))


def job_of(folder: Path) -> Job:
    spec = base.read(folder / SPEC, RunSpec)
    return Job(folder, spec, Config.model_validate(spec.config), Rank())


def at_home(folder: Path) -> None:
    """Let a run be found where a project keeps its runs."""
    runs = Layout(Path(base.read(folder / SPEC, RunSpec).root)).runs
    runs.mkdir(parents=True, exist_ok=True)
    (runs / folder.name).symlink_to(folder)


def measured(job: Job, model: torch.nn.Module) -> float:
    from mlstack.train.worker.build import build_data

    data = build_data(job)
    data.setup()
    images, targets = data.parts["val"].tensors
    with torch.no_grad():
        return float(torch.nn.functional.cross_entropy(model(images), targets))
