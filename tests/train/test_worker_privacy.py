"""Training with differential privacy: what it keeps, what it refuses, and to the same bit again."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from one_rank import assert_same, epochs_of, last, run

from mlstack.errors import ConfigError, MachineError
from mlstack.records import base
from mlstack.records.run import CHECKPOINTS, LAST, SPEC, Finished, RunSpec, Stopped
from mlstack.train.worker import privacy
from mlstack.train.worker.privacy import SPENT
from mlstack.train.worker.sampling import PoissonBatches

Plan = Callable[..., Path]

pytestmark = pytest.mark.filterwarnings("ignore")

PRIVATE = "train.privacy={epsilon: 6.0, delta: 0.001}"
TEST = -2  # stop there
NETS = """
import os, signal, torch
from torch import nn
from my_project.model import Net as WithBatchNorm

class Net(WithBatchNorm):
    def __init__(self, stop_at=-1, **rest):
        super().__init__(**rest)
        self.stop_at = stop_at
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
            nn.Flatten(), nn.Dropout(0.1), nn.Linear(32, 10),
        )
    def on_train_batch_start(self, batch, batch_idx):
        if self.global_step == self.stop_at:
            self.stop_at = -1
            os.kill(os.getpid(), signal.SIGTERM)
    def on_test_epoch_start(self):
        if self.stop_at == -2:
            os.kill(os.getpid(), signal.SIGTERM)

class Aside(Net):
    def training_step(self, batch, batch_idx):
        last = self.body[-1]
        x = self.body[:-1](batch[0].permute(0, 3, 1, 2).float() / 255)
        return nn.functional.cross_entropy(x @ last.weight.T + last.bias, batch[1])

class Plain(Net):
    def __init__(self, **rest):
        super().__init__(**rest)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(256, 10))
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
"""


@pytest.fixture(scope="module")
def nets(plan: Plan) -> tuple[str, ...]:
    """Settings of a network without batch norm."""
    root = Path(base.read(plan("where") / SPEC, RunSpec).root)
    (root / "private_nets.py").write_text(NETS)
    return (
        "model.class=private_nets:Net",
        "model.args={lr: 0.01}",
        "train.batch_size=32",
        "train.epochs=2",
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found = torch.load(folder / CHECKPOINTS / LAST, weights_only=True)["state_dict"]
    assert isinstance(found, dict)
    return found


def test_what_is_spent_grows_and_ends_below_what_may_be(plan: Plan, nets: tuple[str, ...]) -> None:
    folder = plan("private", *nets, PRIVATE)

    run(folder)

    first, second = (metrics[SPENT] for _, metrics, _ in epochs_of(folder))
    assert 0 < first < second <= 6
    assert second > 5.9, "no more noise than is needed"
    assert last(folder, Finished).metrics[SPENT] == pytest.approx(second)


def test_a_private_run_broken_off_in_an_epoch_goes_on_to_the_same_bits(
    plan: Plan, nets: tuple[str, ...]
) -> None:
    whole, broken = plan("unbroken", *nets, PRIVATE), plan("broken", *nets, PRIVATE)
    run(whole)
    spec = base.read(broken / SPEC, RunSpec)
    spec.config["model"]["args"]["stop_at"] = 7
    base.write(broken / SPEC, spec)
    run(broken)
    assert last(broken, Stopped).step == 8
    spec.config["model"]["args"]["stop_at"] = -1
    base.write(broken / SPEC, spec)

    run(broken, resume=True)

    assert_same(broken, whole)
    assert epochs_of(broken) == epochs_of(whole)


def test_what_is_spent_is_told_of_a_run_whose_test_was_broken_off_too(
    plan: Plan, nets: tuple[str, ...]
) -> None:
    folder = plan("untested", *nets, PRIVATE)
    spec = base.read(folder / SPEC, RunSpec)
    spec.config["model"]["args"]["stop_at"] = TEST
    base.write(folder / SPEC, spec)
    run(folder)
    assert last(folder, Stopped).step > 0
    spec.config["model"]["args"]["stop_at"] = -1
    base.write(folder / SPEC, spec)

    run(folder, resume=True)

    *_, (_, metrics, _) = epochs_of(folder)
    assert last(folder, Finished).metrics[SPENT] == pytest.approx(metrics[SPENT])
    assert metrics[SPENT] > 5.9


def test_without_noise_and_cuts_a_step_is_that_of_the_sum_over_the_batch_that_was_wanted(
    plan: Plan, nets: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = (*nets, "model.class=private_nets:Plain", "model.args={}", "train.epochs=1")
    one_step = "train.trainer_args={limit_train_batches: 1}"
    start = plan("start", *sets, "train.privacy={epsilon: 6, delta: 0.001}", one_step)
    monkeypatch.setattr(privacy.Private, "_chosen_noise", lambda *_: 0.0)
    monkeypatch.setattr(privacy.Private, "spent", lambda *_: 0.0)
    seen: list[tuple[int, torch.Tensor, torch.Tensor]] = []
    check = privacy.Private.on_after_backward

    def noted(self, trainer, module):
        check(self, trainer, module)
        layer = module.body[1]
        size = len(layer.weight.grad_sample)
        seen.append((size, layer.weight.detach().clone(), layer.weight.grad.clone()))

    monkeypatch.setattr(privacy.Private, "on_after_backward", noted)
    spec = base.read(start / SPEC, RunSpec)
    spec.config["train"]["privacy"]["max_grad_norm"] = 1e9
    base.write(start / SPEC, spec)

    run(start)

    ((size, before, mean),) = seen
    wanted = before - 0.1 * mean * size / 32
    assert size != 32, "drawn by chance"
    assert torch.allclose(weights(start)["body.1.weight"], wanted, atol=1e-6)


def test_no_example_moves_the_weights_further_than_its_cut(
    plan: Plan, nets: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = (*nets, "model.class=private_nets:Plain", "model.args={}", "train.epochs=1")
    monkeypatch.setattr(privacy.Private, "_chosen_noise", lambda *_: 0.0)
    monkeypatch.setattr(privacy.Private, "spent", lambda *_: 0.0)
    longest: list[float] = []
    start: dict[str, torch.Tensor] = {}
    check = privacy.Private.on_after_backward

    def noted(self, trainer, module):
        check(self, trainer, module)
        samples = [weight.grad_sample for weight in module.parameters()]
        longest.append(float(sum(s.flatten(1).square().sum(1) for s in samples).sqrt().max()))
        start.update({name: weight.detach().clone() for name, weight in module.named_parameters()})

    monkeypatch.setattr(privacy.Private, "on_after_backward", noted)
    cut = "train.privacy={epsilon: 6, delta: 0.001, max_grad_norm: 0.001}"
    folder = plan("cut", *sets, cut, "train.trainer_args={limit_train_batches: 1}")

    run(folder)

    end = weights(folder)
    step = math.sqrt(sum(float((end[name] - start[name]).square().sum()) for name in end))
    assert longest[0] > 0.1, "uncut, one alone is longer"
    assert 0 < step <= 0.1 * 0.001 * 200 / 32


@pytest.mark.parametrize(
    ("sets", "error", "said"),
    [
        (["model.class=my_project.model:Net"], ConfigError, "`body.0.1` is a BatchNorm2d"),
        (["model.class=private_nets:Aside"], ConfigError, r"no gradient of each example for body"),
        (["train.privacy.delta=0.1"], ConfigError, "far below 0.006"),
        (["data.sampling=balanced"], ConfigError, "cannot balance them"),
    ],
)
def test_what_cannot_be_private_says_what_to_write(
    plan: Plan, nets: tuple[str, ...], sets: list[str], error: type[Exception], said: str
) -> None:
    folder = plan(f"refused-{abs(hash(said))}", *nets, PRIVATE, *sets)

    with pytest.raises(error, match=said):
        run(folder)


def test_without_the_package_the_command_to_type_is_named(
    plan: Plan, nets: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(privacy, "find_spec", lambda _: None)

    with pytest.raises(MachineError) as caught:
        run(plan("lacking", *nets, PRIVATE))

    assert caught.value.hint == "pip install 'mlstack[privacy]'"


def test_each_example_is_drawn_by_chance_of_its_own_and_the_same_way_again() -> None:
    drawn, again = PoissonBatches(500, 50, seed=3), PoissonBatches(500, 50, seed=3)
    epochs = []
    for epoch in range(40):
        drawn.set_epoch(epoch)
        epochs.append(list(drawn))
    again.set_epoch(7)
    again.go_on(7, batches=4)

    sizes = torch.tensor([len(batch) for batches in epochs for batch in batches]).float()
    times = torch.bincount(torch.tensor([i for bs in epochs for b in bs for i in b]))
    assert len(drawn) == 10
    assert abs(sizes.mean() - 50) < 1.5
    assert abs(sizes.var() - 45) < 10, "binomial: 500 times 0.1 times 0.9"
    assert abs(times.float().var() - 36) < 8, "independent: 400 times 0.1 times 0.9"
    assert list(again) == epochs[7][4:]
    assert epochs[0] != epochs[1]
