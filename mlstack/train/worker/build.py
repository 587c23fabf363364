"""The model and the data of a run, built from its spec."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningDataModule, LightningModule

from mlstack.config.schema import Config
from mlstack.errors import ConfigError
from mlstack.launch.user_code import construct, load_class
from mlstack.records.dataset import EXAMPLES
from mlstack.records.run import RunSpec
from mlstack.train.worker.data import Images
from mlstack.train.worker.ranks import Rank
from mlstack.train.worker.sampling import EpochSampler, samplers, seat


@dataclass(frozen=True)
class Job:
    """A run in the hands of one rank."""

    folder: Path
    spec: RunSpec
    config: Config
    rank: Rank


def build_model(job: Job) -> LightningModule:
    """Build the user's network.

    Raises:
        ConfigError: the class or one of its arguments is wrong.
    """
    wanted = load_class(job.config.model.class_, Path(job.spec.root), key="model.class")
    if not issubclass(wanted, LightningModule):
        raise ConfigError(
            f"model.class: `{job.config.model.class_}` is not a LightningModule",
            hint="derive it from pytorch_lightning.LightningModule",
        )
    offered = {"num_classes": len(job.spec.classes)} if job.spec.classes else {}
    model: LightningModule = construct(wanted, job.config.model.args, offered, key="model.args")
    return model


def build_data(
    job: Job, place: Callable[[EpochSampler], None] = lambda _: None
) -> LightningDataModule:
    """Build the data module, its plain loaders in an order that can be gone on with.

    Args:
        job: the run.
        place: told of each sampler of train, to start it in the middle of a run.

    Raises:
        ConfigError: the class or one of its arguments is wrong, or the batch does not divide.
    """
    reference = job.config.data.module
    wanted: type = Images
    if reference is not None:
        wanted = load_class(reference, Path(job.spec.root), key="data.module")
    if not issubclass(wanted, LightningDataModule):
        raise ConfigError(
            f"data.module: `{reference}` is not a LightningDataModule",
            hint="derive it from pytorch_lightning.LightningDataModule",
        )
    offered = {
        "examples": str(job.folder / EXAMPLES),
        "batch_size": batch_size(job),
        "num_classes": len(job.spec.classes),
        "seed": job.spec.seed,
    }
    if job.config.project.task == "tabular":
        offered["label"] = job.config.data.label
    data: LightningDataModule = construct(wanted, job.config.data.args, offered, key="data.args")
    changed = {
        "train_dataloader": partial(_for_training, data.train_dataloader, job, place),
        "val_dataloader": partial(_for_judging, data.val_dataloader, job),
        "test_dataloader": partial(_for_judging, data.test_dataloader, job),
    }
    vars(data).update(changed)  # on this object alone; the user's class stays as it is
    return data


def batch_size(job: Job) -> int:
    """Give the examples that one rank takes per step.

    Raises:
        ConfigError: the ranks cannot share train.batch_size evenly.
    """
    whole, ranks = job.config.train.batch_size, job.rank.count
    if whole % ranks:
        raise ConfigError(
            f"train.batch_size is {whole}, which {ranks} ranks cannot share evenly",
            hint=f"write {max(1, whole // ranks) * ranks}",
        )
    return whole // ranks


def _for_training(given: Any, job: Job, place: Callable[[EpochSampler], None]) -> Any:
    loaders = seat(given(), job.rank, job.spec.seed, train=True)
    for sampler in samplers(loaders):
        place(sampler)
    return loaders


def _for_judging(given: Any, job: Job) -> Any:
    return seat(given(), job.rank, job.spec.seed, train=False)
