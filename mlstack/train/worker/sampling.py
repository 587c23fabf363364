"""The order of the examples: a function of seed and epoch, so that any batch can be gone on with.

The ranks take turns in one global order, so that step k sees the same examples with one rank as
with four.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
)

from mlstack.errors import ConfigError
from mlstack.train.worker.ranks import Rank


class EpochSampler(Sampler[int]):
    """Indices of one rank for one epoch; shuffled by (seed, epoch), split by rank.

    In train every rank gets equally many (the first ones are repeated), since the ranks step
    together; in val and test none is repeated, so that metrics are exact.
    """

    def __init__(self, size: int, rank: Rank, *, seed: int, train: bool, shuffle: bool) -> None:
        self.size = size
        self.rank = rank
        self.seed = seed
        self.train = train
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

    def __len__(self) -> int:
        """Count the examples of a whole epoch, also when it is gone on with in the middle."""
        count = self.rank.count
        if self.train:
            return -(-self.size // count)
        return len(range(self.rank.number, self.size, count))

    def __iter__(self) -> Iterator[int]:
        """Give the indices; `on_start` is called before the first one is read."""
        order = torch.arange(self.size)
        if self.shuffle:
            own = torch.Generator().manual_seed(self.seed + 1_000_003 * (self.epoch + 1))
            order = torch.randperm(self.size, generator=own)
        if self.train:
            missing = len(self) * self.rank.count - self.size
            order = torch.cat([order, order[:missing]])
        mine = order[self.rank.number :: self.rank.count]
        epoch, seen = self.skip
        self.on_start()
        yield from mine[seen if epoch == self.epoch else 0 :].tolist()


def seat(loaders: Any, rank: Rank, seed: int, *, train: bool) -> Any:
    """Give plain loaders an `EpochSampler`; anything else of the user's stays as it is.

    Raises:
        ConfigError: several ranks would read the same examples, or a part has too few of them.
    """
    if isinstance(loaders, dict):
        return {name: seat(one, rank, seed, train=train) for name, one in loaders.items()}
    if isinstance(loaders, list | tuple):
        return [seat(one, rank, seed, train=train) for one in loaders]
    if not isinstance(loaders, DataLoader):
        return loaders
    if _is_plain(loaders):
        return _rebuild(loaders, rank, seed, train=train)
    shared = isinstance(loaders.dataset, IterableDataset) or isinstance(
        loaders.sampler, DistributedSampler
    )
    if rank.count > 1 and not shared:
        raise ConfigError(
            f"the ranks cannot share a DataLoader with a `{type(loaders.sampler).__name__}`",
            hint="use shuffle=True, or a DistributedSampler, or train with one rank",
        )
    return loaders


def samplers(loaders: Any) -> list[EpochSampler]:
    """List the samplers that `seat` put in."""
    if isinstance(loaders, dict):
        loaders = list(loaders.values())
    if isinstance(loaders, list | tuple):
        return [found for one in loaders for found in samplers(one)]
    found = getattr(loaders, "sampler", None)
    return [found] if isinstance(found, EpochSampler) else []


def _is_plain(loader: DataLoader[Any]) -> bool:
    if type(loader) is not DataLoader or type(loader.batch_sampler) is not BatchSampler:
        return False
    sampler = loader.sampler
    if type(sampler) is RandomSampler:
        return not sampler.replacement and sampler.num_samples == len(sampler.data_source)
    return type(sampler) is SequentialSampler


def _rebuild(loader: DataLoader[Any], rank: Rank, seed: int, *, train: bool) -> DataLoader[Any]:
    size = len(loader.dataset)  # type: ignore[arg-type]
    if size < rank.count:
        raise ConfigError(
            f"{rank.count} ranks cannot share {size} examples",
            hint="use fewer ranks, or a larger share in data.split",
        )
    shuffle = type(loader.sampler) is RandomSampler
    sampler = EpochSampler(size, rank, seed=seed, train=train, shuffle=shuffle)
    return DataLoader(
        loader.dataset,
        batch_size=loader.batch_size,
        sampler=sampler,
        drop_last=loader.drop_last,
        generator=sampler.generator,
        **{name: getattr(loader, name) for name in _KEPT},
    )


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
