"""`python -m mlstack.train.worker.evaluate RUN_FOLDER CHECKPOINT PART TARGET [GPU]`.

The weights of a checkpoint answer one part of the run's examples; logits and true classes go to
TARGET, a file of two arrays in numpy's own format. GPU is the uuid of the one to use; without it
the CPU answers.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningModule

from mlstack.config import Config
from mlstack.errors import ConfigError, DataError
from mlstack.launch.worker import report
from mlstack.records.base import read
from mlstack.records.run import SPEC, RunSpec
from mlstack.records.worker import WorkerProgress
from mlstack.train.worker.build import build_data, build_model
from mlstack.train.worker.checkpoint import read_checkpoint
from mlstack.train.worker.ranks import Job, Rank


def main() -> int:
    """Answer, and say what is being done; what the user's code prints goes to the log."""
    folder, checkpoint, part, target, *gpus = sys.argv[1:]
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)  # read when CUDA is first used
    with os.fdopen(os.dup(1), "wb") as channel:
        os.dup2(2, 1)
        return report(evaluate(Path(folder), Path(checkpoint), part, Path(target)), channel)


def evaluate(folder: Path, checkpoint: Path, part: str, target: Path) -> Iterator[WorkerProgress]:
    """Have the weights of a checkpoint answer a part, and keep the answers.

    Raises:
        ConfigError: the module gives no logits, or the checkpoint does not fit it.
        DataError: the part is empty, or the checkpoint is damaged.
    """
    spec = read(folder / SPEC, RunSpec)
    job = Job(folder, spec, Config.model_validate(spec.config), Rank())
    device = torch.device("cuda" if os.environ["CUDA_VISIBLE_DEVICES"] else "cpu")
    network, data = load_network(job, checkpoint).to(device), build_data(job)
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    loader = _single(data.test_dataloader() if part == "test" else data.val_dataloader(), part)
    logits: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    for done, (batch, truth) in enumerate(_pairs(loader), start=1):
        with torch.inference_mode():
            answer = network(batch.to(device))
        logits.append(_logits(answer, len(batch), len(spec.classes)))
        targets.append(truth.numpy().astype(np.int64))
        yield WorkerProgress(text=f"answering the {part} part", done=done, total=len(loader))
    if not logits:
        raise DataError(f"the run has no examples in its {part} part")
    with target.open("wb") as stream:
        np.savez(stream, logits=np.concatenate(logits), targets=np.concatenate(targets))


def load_network(job: Job, checkpoint: Path) -> LightningModule:
    """Build the user's module with the weights of a checkpoint, in eval mode.

    Raises:
        ConfigError: the checkpoint does not fit the class as it is now.
        DataError: it is damaged.
    """
    model = build_model(job)
    try:
        model.load_state_dict(read_checkpoint(checkpoint)["state_dict"])
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ConfigError(
            f"the checkpoint does not fit `{job.config.model.class_}`: {reason}",
            hint="the code has changed since the run; train again",
        ) from error
    return model.float().eval()


def _logits(answer: Any, rows: int, classes: int) -> np.ndarray:
    shape = tuple(getattr(answer, "shape", ()))
    if shape != (rows, classes):
        raise ConfigError(
            f"model.class: forward gives {shape or type(answer).__name__} for a batch of {rows}; "
            f"it must give logits of shape (batch, {classes})"
        )
    found: np.ndarray = answer.float().cpu().numpy()
    return found


def _single(loader: Any, part: str) -> Any:
    loaders = loader if isinstance(loader, list | tuple) else [loader]
    if len(loaders) != 1 or isinstance(loaders[0], dict):
        raise ConfigError(f"data.module: the {part} part must have exactly one loader")
    return loaders[0]


def _pairs(loader: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    for batch in loader:
        if not isinstance(batch, list | tuple) or len(batch) != 2:
            raise ConfigError("data.module: batches must be pairs (inputs, targets)")
        yield batch[0], batch[1]


if __name__ == "__main__":
    sys.exit(main())
