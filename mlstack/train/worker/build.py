"""The model and the data of a run, built from its spec."""

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningDataModule, LightningModule

from mlstack.errors import ConfigError
from mlstack.inputs import decoded
from mlstack.inputs.tasks import reads_rows
from mlstack.launch.user_code import construct, load_class
from mlstack.records.dataset import EXAMPLES
from mlstack.train.worker import augment
from mlstack.train.worker.callbacks import ReadingProgress
from mlstack.train.worker.classes import class_weights, train_targets
from mlstack.train.worker.data import Images
from mlstack.train.worker.ranks import Job
from mlstack.train.worker.sampling import Drawn, Seat, samplers, seat


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
    offered: dict[str, Any] = {"num_classes": len(job.spec.classes)} if job.spec.classes else {}
    weights = class_weights(job)
    if weights is not None:
        if "class_weights" not in inspect.signature(wanted).parameters:
            raise ConfigError(
                f"train.class_weights: `{wanted.__name__}` takes no argument `class_weights`",
                hint="take it in __init__, and hand it to the loss as its `weight`",
            )
        offered["class_weights"] = weights
    model: LightningModule = construct(wanted, job.config.model.args, offered, key="model.args")
    return model


def announce_reading(job: Job) -> None:
    """Have rank 0 tell in the run's events how far its examples are made ready.

    Only for who trains or checks: an event after its end would make of a finished run another one.
    """
    if not job.rank.number:
        decoded.announcer.tell = ReadingProgress(job).tell


def build_data(
    job: Job, place: Callable[[Drawn], None] = lambda _: None, examples: str = EXAMPLES
) -> LightningDataModule:
    """Build the data module, its plain loaders in an order that can be gone on with.

    Args:
        job: the run.
        place: told of each sampler of train, to start it in the middle of a run.
        examples: name of the table in the run's folder.

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
        "examples": str(job.folder / examples),
        "batch_size": batch_size(job),
        "num_classes": len(job.spec.classes),
        "seed": job.spec.seed,
    }
    if reads_rows(job.config.project.task):
        offered["label"] = job.config.data.label
    data: LightningDataModule = construct(wanted, job.config.data.args, offered, key="data.args")
    changed = {
        "train_dataloader": partial(_for_training, data.train_dataloader, job, place),
        "val_dataloader": partial(_for_judging, data.val_dataloader, job),
        "test_dataloader": partial(_for_judging, data.test_dataloader, job),
    }
    vars(data).update(
        changed | augment.installed(job, data)
    )  # on this object alone; the user's class stays as it is
    return data


def batch_size(job: Job) -> int:
    """Give the examples that one rank takes at a time: its share, or a part of that.

    Raises:
        ConfigError: the ranks cannot share train.batch_size evenly.
    """
    whole = job.config.train.batch_size
    parts = job.rank.count * job.config.train.accumulate
    if whole % parts:
        in_parts = f" in {job.config.train.accumulate} parts" if parts != job.rank.count else ""
        raise ConfigError(
            f"train.batch_size is {whole}, which {job.rank.count} ranks cannot share evenly"
            f"{in_parts}",
            hint=f"write {max(1, whole // parts) * parts}",
        )
    return whole // parts


def _for_training(given: Any, job: Job, place: Callable[[Drawn], None]) -> Any:
    balanced = job.config.data.sampling == "balanced"
    targets = train_targets(job) if balanced else None
    by_chance = job.config.train.privacy is not None
    loaders = seat(
        given(), Seat(job.rank, job.spec.seed, train=True, targets=targets, by_chance=by_chance)
    )
    for sampler in samplers(loaders):
        place(sampler)
    return loaders


def _for_judging(given: Any, job: Job) -> Any:
    return seat(given(), Seat(job.rank, job.spec.seed, train=False))
