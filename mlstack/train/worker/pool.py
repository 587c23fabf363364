"""Examples without a label, and what the teacher answers to them.

They are the test part of a second data module of the user's own class, over the same rows of train
and val: whatever it learns from those (a scale, a vocabulary) is the same, and the module of the
run never meets an example without a label.
"""

from typing import Any

import torch
from pytorch_lightning import LightningDataModule, LightningModule
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from mlstack.errors import ConfigError
from mlstack.records.dataset import UNLABELED
from mlstack.train.worker.build import batch_size, build_data
from mlstack.train.worker.ranks import Job

AT_ONCE = 256  # examples that the teacher is asked together


class Pool:
    """Gives each step as many examples as a batch, each as often as any other.

    Which ones is a function of seed and step, so a run can be gone on with; the teacher is asked
    once for each, at the first step.
    """

    def __init__(self, job: Job, teacher: LightningModule) -> None:
        self._job = job
        self._teacher = teacher
        self._data = build_data(job, examples=UNLABELED)
        self._loader = _loader(self._data)
        self._size = len(self._loader.dataset)  # type: ignore[arg-type]
        self._answers: Tensor | None = None  # (examples, classes)
        self._orders: dict[int, list[int]] = {}  # pass over the pool -> its order

    def batch(self, model: LightningModule) -> tuple[Any, Tensor]:
        """Give the inputs of this step, and the teacher's logits for them."""
        if self._answers is None:
            self._answers = self._asked(model)
        trainer = model.trainer
        number = trainer.current_epoch * int(trainer.num_training_batches)
        places = self._places(number + trainer.fit_loop.batch_idx)
        return self._inputs(places, model), self._answers[places]

    def _places(self, number: int) -> list[int]:
        """Choose the examples of a step; all ranks together go through the pool, pass by pass."""
        rank = self._job.rank
        mine = min(batch_size(self._job), self._size)
        first = (number * rank.count + rank.number) * mine
        return [self._at(place) for place in range(first, first + mine)]

    def _at(self, place: int) -> int:
        turn, offset = divmod(place, self._size)
        if turn not in self._orders:
            own = torch.Generator().manual_seed(self._job.spec.seed + 1_000_003 * (turn + 1))
            order = torch.randperm(self._size, generator=own).tolist()
            self._orders = {key: kept for key, kept in self._orders.items() if key == turn - 1}
            self._orders[turn] = order
        return self._orders[turn][offset]

    def _asked(self, model: LightningModule) -> Tensor:
        """Ask the teacher for all, in an order that is the same whenever a run is gone on with."""
        teacher = self._teacher.to(model.device)
        blocks = [
            list(range(start, min(start + AT_ONCE, self._size)))
            for start in range(0, self._size, AT_ONCE)
        ]
        with torch.no_grad():
            return torch.cat([teacher(self._inputs(block, model)) for block in blocks])

    def _inputs(self, places: list[int], model: LightningModule) -> Any:
        dataset: Any = self._loader.dataset
        together = getattr(dataset, "__getitems__", None)
        rows = together(places) if together else [dataset[place] for place in places]
        batch = self._loader.collate_fn(rows)
        if not isinstance(batch, list | tuple) or len(batch) != 2:
            raise ConfigError(
                "train.distill.unlabeled: batches must be pairs (inputs, targets)",
                hint="give such pairs from data.module, or write `unlabeled: false`",
            )
        return model.transfer_batch_to_device(batch[0], model.device, 0)


def _loader(data: LightningDataModule) -> DataLoader[Any]:
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    loader = data.test_dataloader()
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        raise ConfigError(
            "train.distill.unlabeled: data.module must give one DataLoader over a dataset with len",
            hint="give one from test_dataloader, or write `unlabeled: false`",
        )
    return loader
