"""The classes of the train part: how often each comes, and how much each shall count."""

import numpy as np
import torch
from torch import Tensor

from mlstack.errors import ConfigError
from mlstack.records.dataset import EXAMPLES, read_examples
from mlstack.train.worker.ranks import Job


def train_targets(job: Job) -> Tensor:
    """Give the class of each example of train, int64, in the order of the table of examples."""
    table = read_examples(job.folder / EXAMPLES)
    part = np.asarray(table["split"].to_pylist()) == "train"
    return torch.from_numpy(table["target"].to_numpy().astype(np.int64)[part])


def class_weights(job: Job) -> list[float] | None:
    """Give the weight of each class in the loss, as `train.class_weights` says; None without.

    Balanced, a class weighs n / (classes * n of the class), so that the mean over the examples of
    train is 1 (G. King, L. Zeng: Logistic Regression in Rare Events Data, 2001).

    Raises:
        ConfigError: a class is named that is not there.
    """
    wanted, classes = job.config.train.class_weights, job.spec.classes
    if wanted == "none":
        return None
    if isinstance(wanted, dict):
        for name in wanted:
            if name not in classes:
                raise ConfigError(
                    f"train.class_weights: there is no class `{name}`",
                    hint=f"the classes are {', '.join(classes[:20])}",
                )
        return [wanted.get(name, 1.0) for name in classes]
    targets = train_targets(job)
    counts = torch.bincount(targets, minlength=len(classes))
    weights: list[float] = (len(targets) / (len(classes) * counts.clamp(min=1))).tolist()
    return weights
