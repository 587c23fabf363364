"""The order of the examples: a function of seed and epoch, so that any batch can be gone on with.

The ranks take turns in one global order, so that step k sees the same examples with one rank as
with four.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
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
    get_worker_info,
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


class Indices(list[int]):
    """A batch of indices, and what the random numbers that are drawn for it begin with."""

    def __init__(self, indices: list[int], mark: tuple[int, int, int]) -> None:
        super().__init__(indices)
        self.seed = hash(mark) % 2**32


class EpochSampler(Sampler[int]):
    """Indices of one rank for one epoch; shuffled by (seed, epoch), split by rank.

    In train every rank gets equally many (the first ones are repeated), since the ranks step
    together; in val and test none is repeated, so that metrics are exact.
    """

    def __init__(
        self, size: int, seat: Seat, *, shuffle: bool, batch: int = 1, drop_last: bool = False
    ) -> None:
        self.size = size
        self.batch = batch  # examples that the loader takes at a time
        self.drop_last = drop_last
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

    def go_on(self, epoch: int, batches: int) -> None:
        """Leave out the first batches of an epoch, once.

        A loader that ends before another one beside it is read again from its start.
        """
        whole = len(self) // self.batch if self.drop_last else -(-len(self) // self.batch)
        self.skip = (epoch, batches % max(1, whole) * self.batch)

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
        self.skip = (0, 0)
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

    def go_on(self, epoch: int, batches: int) -> None:
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
                yield Indices(drawn.nonzero().flatten().tolist(), (self.seed, self.epoch, number))


class OwnOrder(DataLoader[Any]):
    """A loader of the user's that orders its examples itself; `seat` makes it one.

    Only reading again tells what it has given already. It begins when its first batch is asked for,
    with the random generators as they were then, and goes on as they were in the middle.
    """

    seen = 0
    on_begin: Callable[[], None] = staticmethod(lambda: None)
    on_start: Callable[[], None] = staticmethod(lambda: None)

    def set_epoch(self, epoch: int) -> None:
        """Leave that to its sampler, which Lightning tells."""

    def go_on(self, epoch: int, batches: int) -> None:
        """Read the first batches of an epoch again, once, and give them to nobody."""
        self.seen = batches

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        seen, self.seen = self.seen, 0
        self.on_begin()
        batches = super().__iter__()
        for _ in islice(batches, seen):
            pass
        if seen:
            self.on_start()
        yield from batches


Drawn = EpochSampler | PoissonBatches | OwnOrder


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
    knows = isinstance(loaders, OwnOrder) or hasattr(loaders, "load_state_dict")
    if place.train and not knows:  # where it is
        kind = type(loaders)
        loaders.__class__ = type(kind.__name__, (OwnOrder, kind), {})
    return loaders


def samplers(loaders: Any) -> list[Drawn]:
    """List the samplers that `seat` put in."""
    if isinstance(loaders, dict):
        loaders = list(loaders.values())
    if isinstance(loaders, list | tuple):
        return [found for one in loaders for found in samplers(one)]
    batches = getattr(loaders, "batch_sampler", None)
    every = (loaders, getattr(loaders, "sampler", None), batches, getattr(batches, "sampler", None))
    return list(dict.fromkeys(found for found in every if isinstance(found, Drawn)))


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
    if place.train and loader.num_workers:
        kept["worker_init_fn"] = partial(_draw_alike, loader.worker_init_fn)
    dataset = _gathered(loader, kept)
    if place.by_chance:
        drawn = PoissonBatches(size, loader.batch_size or 1, place.seed)
        return DataLoader(dataset, batch_sampler=drawn, generator=drawn.generator, **kept)
    sampler = EpochSampler(
        size,
        place,
        shuffle=type(loader.sampler) is RandomSampler,
        batch=loader.batch_size or 1,
        drop_last=loader.drop_last,
    )
    if place.train and loader.num_workers:
        told = Told(sampler, sampler.batch, loader.drop_last)
        return DataLoader(dataset, batch_sampler=told, generator=sampler.generator, **kept)
    return DataLoader(
        dataset,
        batch_size=loader.batch_size,
        sampler=sampler,
        drop_last=loader.drop_last,
        generator=sampler.generator,
        **kept,
    )


class Told(BatchSampler):
    """Batches that say what random numbers are drawn for them, in whichever process."""

    sampler: EpochSampler

    def __iter__(self) -> Iterator[list[int]]:
        for batch in super().__iter__():
            yield Indices(batch, (self.sampler.seed, self.sampler.epoch, batch[0]))


def _draw_alike(given: Callable[[int], None] | None, number: int) -> None:
    """Have a process of a loader draw the same numbers for a batch, whenever it was started."""
    if given is not None:
        given(number)
    dataset: Any = get_worker_info().dataset  # type: ignore[union-attr]
    together = getattr(dataset, "__getitems__", None)

    def read(indices: Indices) -> Any:
        random.seed(indices.seed)
        np.random.seed(indices.seed)
        torch.default_generator.manual_seed(indices.seed)
        return together(indices) if together else [dataset[index] for index in indices]

    with suppress(AttributeError):  # of a dataset that lets nothing be set: it draws as it did
        dataset.__getitems__ = read


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
