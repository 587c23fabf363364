"""What a rank reads: balanced, gathered, augmented; weights of classes."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from mlstack.config.schema import Config
from mlstack.errors import ConfigError
from mlstack.records import base
from mlstack.records.run import SPEC, RunSpec
from mlstack.train.worker.augment import DRAWS, PRESETS, augmentation, changed
from mlstack.train.worker.build import build_data, build_model
from mlstack.train.worker.classes import class_weights
from mlstack.train.worker.ranks import Job, Rank
from mlstack.train.worker.sampling import EpochSampler, Gathered, Seat, balanced, seat

Plan = Callable[..., Path]

pytestmark = pytest.mark.filterwarnings("ignore")


def job_of(folder: Path, rank: Rank | None = None) -> Job:
    spec = base.read(folder / SPEC, RunSpec)
    return Job(folder, spec, Config.model_validate(spec.config), rank or Rank())


def test_every_class_comes_equally_often_and_no_example_twice_more_than_another() -> None:
    targets = torch.tensor([0] * 90 + [1] * 9 + [2])

    order = balanced(targets, torch.Generator().manual_seed(5))

    drawn = targets[order].bincount()
    assert sorted(drawn.tolist()) == [33, 33, 34]
    for one in (0, 1, 2):
        members = (targets == one).nonzero().flatten().tolist()
        times = Counter(i for i in order.tolist() if i in members)
        counts = [times[i] for i in members]
        assert max(counts) - min(counts) <= 1
    assert targets[order][:30].unique().numel() == 3  # shuffled, not class by class


def test_balanced_order_is_the_same_for_any_number_of_ranks_and_can_be_gone_on_with() -> None:
    targets = torch.tensor([0] * 50 + [1] * 6)
    place = Seat(Rank(), 3, train=True, targets=targets)
    alone = list(EpochSampler(56, place, shuffle=True))

    ranks = [
        list(EpochSampler(56, Seat(Rank(n, 4, 4), 3, train=True, targets=targets), shuffle=True))
        for n in range(4)
    ]
    broken = EpochSampler(56, place, shuffle=True)
    broken.skip = (0, 20)

    assert [i for step in zip(*ranks, strict=True) for i in step] == alone
    assert list(broken) == alone[20:]


def test_a_loader_with_an_order_of_its_own_cannot_be_balanced() -> None:
    data = TensorDataset(torch.arange(8))
    own = DataLoader(data, sampler=RandomSampler(data, replacement=True))
    place = Seat(Rank(), 3, train=True, targets=torch.zeros(8, dtype=torch.int64))

    with pytest.raises(ConfigError, match="RandomSampler"):
        seat(own, place)
    with pytest.raises(ConfigError, match="has 8 examples and the table of examples 5"):
        seat(DataLoader(data, shuffle=True), Seat(Rank(), 3, train=True, targets=torch.zeros(5)))


def test_a_gathered_batch_is_what_reading_one_by_one_gives() -> None:
    tensors = torch.rand(20, 3, 2), torch.arange(20), torch.randint(0, 255, (20, 4)).byte()
    plain = DataLoader(TensorDataset(*tensors), 6)

    seated = seat(plain, Seat(Rank(), 3, train=False))

    assert isinstance(seated.dataset, Gathered)
    for ours, theirs in zip(seated, plain, strict=True):
        assert type(ours) is type(theirs)
        for a, b in zip(ours, theirs, strict=True):
            assert torch.equal(a, b) and a.dtype == b.dtype and a.stride() == b.stride()


def test_own_collate_functions_and_datasets_stay_as_they_are() -> None:
    class Own(TensorDataset):
        pass

    own = DataLoader(Own(torch.arange(6)), 2)
    collated = DataLoader(TensorDataset(torch.arange(6)), 2, collate_fn=len)

    assert type(seat(own, Seat(Rank(), 3, train=False)).dataset) is Own
    assert list(seat(collated, Seat(Rank(), 3, train=False))) == [2, 2, 2]


def test_balanced_sampling_by_config(plan: Plan) -> None:
    natural, even = (
        build_data(job_of(plan(f"sampling-{name}", f"data.sampling={name}")))
        for name in ("natural", "balanced")
    )
    for data in (natural, even):
        data.setup()

    counts = torch.cat([batch[1] for batch in even.train_dataloader()]).bincount()

    assert counts.max() - counts.min() <= 1
    before = torch.cat([batch[1] for batch in natural.train_dataloader()]).bincount()
    assert before.max() - before.min() > 1


def test_balanced_class_weights_average_to_one_and_reach_the_model(plan: Plan) -> None:
    job = job_of(plan("weights", "train.class_weights=balanced"))

    weights = class_weights(job)

    assert weights is not None
    data = build_data(job)
    data.setup()
    targets = data.parts["train"].tensors[1]
    assert torch.tensor(weights)[targets].mean().item() == pytest.approx(1)
    assert np.allclose(torch.tensor(weights) * targets.bincount(), len(targets) / 10)
    assert build_model(job).class_weights == weights


def test_class_weights_by_name(plan: Plan) -> None:
    job = job_of(plan("named", 'train.class_weights={"3": 2.5}'))
    wrong = job_of(plan("misnamed", 'train.class_weights={"three": 2.5}'))

    assert class_weights(job) == [1.0, 1.0, 1.0, 2.5, *[1.0] * 6]
    with pytest.raises(ConfigError, match="no class `three`"):
        class_weights(wrong)


def test_a_model_that_takes_no_class_weights_is_named(plan: Plan) -> None:
    folder = plan("weightless", "train.class_weights=balanced", "model.class=weightless:Plain")
    root = Path(base.read(folder / SPEC, RunSpec).root)
    (root / "weightless.py").write_text(
        "from my_project.model import Net\n\n\nclass Plain(Net):\n    def __init__(self, width=8, "
        "lr=1e-3, channels=1):\n        super().__init__(width, lr, channels)\n"
    )

    with pytest.raises(ConfigError, match="`Plain` takes no argument `class_weights`"):
        build_model(job_of(folder))


def picture(side: int = 32) -> torch.Tensor:
    """Give a white square in the upper left quarter of a black picture."""
    image = torch.zeros(1, side, side, 1, dtype=torch.uint8)
    image[:, 4 : side // 2, 4 : side // 2] = 255
    return image


def test_draws_in_the_middle_leave_a_picture_alone() -> None:
    for name in ("basic", "photo", "strong"):
        draws = torch.full((1, DRAWS), 0.5)
        draws[:, 12] = 1.0  # nothing is wiped out
        assert torch.equal(changed(picture(), PRESETS[name], draws), picture()), name


def test_each_draw_changes_what_it_is_for() -> None:
    middle = torch.full((1, DRAWS), 0.5)
    middle[:, 12] = 1.0
    strong = PRESETS["strong"]

    def drawn(place: int, value: float) -> torch.Tensor:
        draws = middle.clone()
        draws[:, place] = value
        return changed(picture(), strong, draws)

    flipped = drawn(4, 0.1)
    assert torch.equal(flipped, picture().flip(2))
    moved = drawn(2, 1.0)  # reads further right: the square goes to the left
    assert columns(moved) < columns(picture())
    assert drawn(6, 1.0).float().mean() > picture().float().mean()
    draws = middle.clone()
    draws[:, 8:12] = torch.tensor([0.1, 0.1, 1.0, 1.0])
    draws[:, 12] = 0.0
    wiped = changed(picture(), strong, draws)
    assert 0 < int((wiped != picture()).sum()) < 32 * 32 / 4


def columns(images: torch.Tensor) -> float:
    """Give the mean column of what is bright."""
    mass = images.float().sum(dim=(0, 1, 3))
    return float((mass * torch.arange(len(mass))).sum() / mass.sum())


def test_wide_pictures_are_turned_not_sheared() -> None:
    image = torch.zeros(1, 40, 80, 1, dtype=torch.uint8)
    image[:, 15:25, 20:60] = 255  # 10 high, 40 wide
    draws = torch.full((1, DRAWS), 0.5)
    draws[:, 0], draws[:, 12] = 1.0, 1.0

    turned = changed(image, PRESETS["strong"], draws).float()[0, :, :, 0] / 255

    ys, xs = torch.meshgrid(torch.arange(40.0), torch.arange(80.0), indexing="ij")
    x, y = xs - (turned * xs).sum() / turned.sum(), ys - (turned * ys).sum() / turned.sum()
    spread = torch.stack([x, y]) * turned.sqrt()
    covariance = (spread.flatten(1) @ spread.flatten(1).T) / turned.sum()
    angle = 0.5 * torch.atan2(2 * covariance[0, 1], covariance[0, 0] - covariance[1, 1])
    assert abs(abs(float(angle.rad2deg())) - 20) < 1
    assert float(turned.sum()) == pytest.approx(400, rel=0.02)


@pytest.mark.parametrize("preset", ["basic", "photo", "strong"])
def test_four_ranks_see_the_pictures_that_one_sees(plan: Plan, preset: str) -> None:
    folder = plan(f"ranks-{preset}", f"data.augment={preset}")
    images = torch.randint(0, 255, (16, 12, 12, 3), dtype=torch.uint8)

    whole = augmentation(job_of(folder)).images(images, 2, 7)
    parts = [
        augmentation(job_of(folder, Rank(n, 4, 4))).images(images[n::4], 2, 7) for n in range(4)
    ]

    assert not torch.equal(whole, images)
    for number, part in enumerate(parts):
        assert torch.equal(part, whole[number::4])
    assert not torch.equal(whole, augmentation(job_of(folder)).images(images, 2, 8))


def test_augmentation_leaves_the_random_numbers_of_the_network_alone(plan: Plan) -> None:
    change = augmentation(job_of(plan("dropout", "data.augment=strong")))
    torch.manual_seed(1)
    expected = torch.rand(3)

    torch.manual_seed(1)
    change.images(picture(), 0, 0)

    assert torch.equal(torch.rand(3), expected)


def test_an_own_function_augments_and_is_checked(plan: Plan) -> None:
    folder = plan("own-augment", "data.augment=own_augment:noisy")
    wrong = plan("wrong-augment", "data.augment=own_augment:halved")
    missing = plan("no-augment", "data.augment=own_augment:noise")
    root = Path(base.read(folder / SPEC, RunSpec).root)
    (root / "own_augment.py").write_text(
        "import torch\n\n\ndef noisy(images):\n"
        "    return images ^ torch.randint_like(images, 0, 2)\n\n\n"
        "def halved(images):\n    return images[::2]\n"
    )
    images = torch.randint(0, 255, (8, 6, 6, 1), dtype=torch.uint8)

    found = augmentation(job_of(folder)).batch([images, torch.arange(8)], 1, 2)

    assert not torch.equal(found[0], images) and torch.equal(found[1], torch.arange(8))
    again = augmentation(job_of(folder)).images(images, 1, 2)
    assert torch.equal(found[0], again)
    with pytest.raises(ConfigError, match="must give 8 images"):
        augmentation(job_of(wrong)).images(images, 1, 2)
    with pytest.raises(ConfigError, match="no function `noise`"):
        augmentation(job_of(missing))


def test_only_images_are_augmented(plan: Plan) -> None:
    change = augmentation(job_of(plan("rows", "data.augment=basic")))

    with pytest.raises(ConfigError, match="must begin with images"):
        change.batch([torch.rand(4, 10), torch.arange(4)], 0, 0)
    with pytest.raises(ConfigError, match="rows of a table"):
        build_data(job_of(plan("table", "data.augment=basic", "project.task=tabular")))
