"""The order of the examples: a function of seed and epoch, so that any batch can be gone on with.

The ranks take turns in one global order, so that step k sees the same examples with one rank as
with four.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    TensorDataset,
    default_collate,
)

from mlstack.errors import ConfigError
from mlstack.train.worker.ranks import Rank


@dataclass(frozen=True)
class Seat:
    """Who reads a loader, and how."""

    rank: Rank
    seed: int
    train: bool
    targets: Tensor | None = None  # class of each example, int64; given, all come equally often
    by_chance: bool = False  # each example is in a batch by chance of its own (Poisson)


class EpochSampler(Sampler[int]):
    """Indices of one rank for one epoch; shuffled by (seed, epoch), split by rank.

    In train every rank gets equally many (the first ones are repeated), since the ranks step
    together; in val and test none is repeated, so that metrics are exact.
    """

    def __init__(self, size: int, seat: Seat, *, shuffle: bool) -> None:
        self.size = size
        self.rank = seat.rank
        self.seed = seat.seed
        self.train = seat.train
        self.targets = seat.targets
        self.shuffle = shuffle
        self.epoch = 0
        self.skip = (0, 0)  # (epoch, examples of this rank already seen in it)
        self.on_start: Callable[[], None] = lambda: None
        self.generator = torch.Generator()  # seeds the loader's processes
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order; Lightning calls this before each epoch."""
        self.epoch = epoch
        self.generator.manual_seed(self.seed + 1_000_003 * (epoch + 1))

    def go_on(self, epoch: int, batches: int, size: int) -> None:
        """Leave out the first batches of an epoch, of `size` examples each."""
        self.skip = (epoch, batches * size)

    def __len__(self) -> int:
        """Count the examples of a whole epoch, also when it is gone on with in the middle."""
        count = self.rank.count
        if self.train:
            return -(-self.size // count)
        return len(range(self.rank.number, self.size, count))

    def __iter__(self) -> Iterator[int]:
        """Give the indices; `on_start` is called before the first one is read."""
        order = self._order()
        if self.train:
            missing = len(self) * self.rank.count - self.size
            order = torch.cat([order, order[:missing]])
        mine = order[self.rank.number :: self.rank.count]
        epoch, seen = self.skip
        self.on_start()
        yield from mine[seen if epoch == self.epoch else 0 :].tolist()

    def _order(self) -> Tensor:
        own = torch.Generator().manual_seed(self.seed + 1_000_003 * (self.epoch + 1))
        if self.targets is not None:
            return balanced(self.targets, own)
        return torch.randperm(self.size, generator=own) if self.shuffle else torch.arange(self.size)


class PoissonBatches(Sampler[list[int]]):
    """Batches that each example is in by chance of its own, as differential privacy asks for.

    They differ in size and have `batch` examples on average; an epoch has as many as without
    chance. Each is a function of (seed, epoch, number).
    """

    def __init__(self, size: int, batch: int, seed: int) -> None:
        self.size, self.batch, self.seed = size, batch, seed
        self.epoch = 0
        self.skip = (0, 0)  # (epoch, batches already seen in it)
        self.on_start: Callable[[], None] = lambda: None
        self.generator = torch.Generator()  # seeds the loader's processes
        self.sampler = self  # where Lightning looks for `set_epoch`
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the batches; Lightning calls this before each epoch."""
        self.epoch = epoch
        self.generator.manual_seed(self.seed + 1_000_003 * (epoch + 1))

    def go_on(self, epoch: int, batches: int, size: int) -> None:
        """Leave out the first batches of an epoch."""
        self.skip = (epoch, batches)

    def __len__(self) -> int:
        """Count the batches of a whole epoch."""
        return -(-self.size // self.batch)

    def __iter__(self) -> Iterator[list[int]]:
        """Give the batches; `on_start` is called before the first one is read."""
        own = torch.Generator().manual_seed(self.seed + 1_000_003 * (self.epoch + 1))
        epoch, seen = self.skip
        self.on_start()
        for number in range(len(self)):
            drawn = torch.rand(self.size, generator=own) < self.batch / self.size
            if number >= (seen if epoch == self.epoch else 0):
                yield drawn.nonzero().flatten().tolist()


Drawn = EpochSampler | PoissonBatches


def balanced(targets: Tensor, generator: torch.Generator) -> Tensor:
    """Draw as many indices as there are targets, from every class equally many, shuffled.

    Within a class all examples come before one comes again, so none is drawn more than once more
    often than another.

    Args:
        targets: int64, shape (examples,).
        generator: decides which, and in what order.

    Returns:
        int64, shape (examples,).
    """
    classes = torch.unique(targets)
    share, over = divmod(len(targets), len(classes))
    drawn = []
    for place, one in enumerate(classes):
        members = (targets == one).nonzero().flatten()
        wanted = share + (place < over)
        times = -(-wanted // len(members))
        turns = [members[torch.randperm(len(members), generator=generator)] for _ in range(times)]
        drawn.append(torch.cat(turns)[:wanted])
    found = torch.cat(drawn)
    return found[torch.randperm(len(found), generator=generator)]


class Gathered(TensorDataset):
    """A TensorDataset that gives a batch by one index into each tensor.

    The values are those that reading one example at a time and stacking them gives, at a tenth of
    the cost.
    """

    def __getitems__(self, indices: list[int]) -> list[Tensor]:
        """Give a batch."""
        places = torch.from_numpy(np.array(indices))
        return [tensor.index_select(0, places) for tensor in self.tensors]


def seat(loaders: Any, place: Seat) -> Any:
    """Give plain loaders an `EpochSampler`; anything else of the user's stays as it is.

    Raises:
        ConfigError: several ranks would read the same examples, a part has too few of them, or
            a loader that orders its examples itself should be balanced.
    """
    if isinstance(loaders, dict):
        return {name: seat(one, place) for name, one in loaders.items()}
    if isinstance(loaders, list | tuple):
        return [seat(one, place) for one in loaders]
    if not isinstance(loaders, DataLoader):
        return loaders
    if _is_plain(loaders):
        return _rebuild(loaders, place)
    own = type(loaders.sampler).__name__
    if place.by_chance:
        raise ConfigError(
            f"train.privacy: the DataLoader of train has a `{own}` of its own",
            hint="use a plain DataLoader with shuffle=True",
        )
    if place.targets is not None:
        raise ConfigError(
            f"data.sampling: balanced, but the DataLoader of train has a `{own}` of its own",
            hint="use shuffle=True, or write `sampling: natural`",
        )
    shared = isinstance(loaders.dataset, IterableDataset) or isinstance(
        loaders.sampler, DistributedSampler
    )
    if place.rank.count > 1 and not shared:
        raise ConfigError(
            f"the ranks cannot share a DataLoader with a `{own}`",
            hint="use shuffle=True, or a DistributedSampler, or train with one rank",
        )
    return loaders


def samplers(loaders: Any) -> list[Drawn]:
    """List the samplers that `seat` put in."""
    if isinstance(loaders, dict):
        loaders = list(loaders.values())
    if isinstance(loaders, list | tuple):
        return [found for one in loaders for found in samplers(one)]
    both = (getattr(loaders, "sampler", None), getattr(loaders, "batch_sampler", None))
    return [found for found in both if isinstance(found, Drawn)]


def _is_plain(loader: DataLoader[Any]) -> bool:
    if type(loader) is not DataLoader or type(loader.batch_sampler) is not BatchSampler:
        return False
    sampler = loader.sampler
    if type(sampler) is RandomSampler:
        return not sampler.replacement and sampler.num_samples == len(sampler.data_source)
    return type(sampler) is SequentialSampler


def _rebuild(loader: DataLoader[Any], place: Seat) -> DataLoader[Any]:
    size = len(loader.dataset)  # type: ignore[arg-type]
    if not size:
        raise ConfigError(
            "a loader of train or val has no examples",
            hint="give both a share in data.split, or leave val_dataloader away",
        )
    if size < place.rank.count:
        raise ConfigError(
            f"{place.rank.count} ranks cannot share {size} examples",
            hint="use fewer ranks, or a larger share in data.split",
        )
    if place.targets is not None and len(place.targets) != size:
        raise ConfigError(
            f"data.sampling: balanced, but the dataset of train has {size} examples and the table "
            f"of examples {len(place.targets)}",
            hint="read the rows of the table as they are, or write `sampling: natural`",
        )
    kept = {name: getattr(loader, name) for name in _KEPT}
    dataset = _gathered(loader, kept)
    if place.by_chance:
        drawn = PoissonBatches(size, loader.batch_size or 1, place.seed)
        return DataLoader(dataset, batch_sampler=drawn, generator=drawn.generator, **kept)
    sampler = EpochSampler(size, place, shuffle=type(loader.sampler) is RandomSampler)
    return DataLoader(
        dataset,
        batch_size=loader.batch_size,
        sampler=sampler,
        drop_last=loader.drop_last,
        generator=sampler.generator,
        **kept,
    )


def _gathered(loader: DataLoader[Any], kept: dict[str, Any]) -> Dataset[Any]:
    """Read a batch of tensors in memory at once, where nobody can tell the difference."""
    dataset = loader.dataset
    if type(dataset) is not TensorDataset or loader.collate_fn is not default_collate:
        return dataset
    kept["collate_fn"] = as_it_is
    return Gathered(*dataset.tensors)


def as_it_is(batch: Any) -> Any:
    """Collate what is a batch already."""
    return batch


_KEPT = (
    "num_workers",
    "collate_fn",
    "pin_memory",
    "timeout",
    "worker_init_fn",
    "multiprocessing_context",
    "prefetch_factor",
    "persistent_workers",
)
