"""Fit: Lightning's Trainer set up from the spec, then the best weights and the test part."""

import math
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningDataModule, LightningModule, Trainer, seed_everything
from pytorch_lightning.utilities.exceptions import SIGTERMException
from pytorch_lightning.utilities.model_helpers import is_overridden

from mlstack.config.duration import seconds
from mlstack.config.train_sections import Train
from mlstack.errors import ConfigError, DataError, Interrupted, MachineError
from mlstack.launch.user_code import construct
from mlstack.records.run import (
    BEST,
    CHECKPOINTS,
    CheckpointSaved,
    Finished,
    Started,
    Stopped,
    append_event,
    read_events,
)
from mlstack.train.worker.averaging import Averaged
from mlstack.train.worker.build import announce_reading, build_data, build_model
from mlstack.train.worker.callbacks import Progress, StopWhileTesting
from mlstack.train.worker.checkpoint import (
    Position,
    WholeFiles,
    newest,
    read_checkpoint,
)
from mlstack.train.worker.equip import equip
from mlstack.train.worker.heartbeat import Heartbeat
from mlstack.train.worker.keeper import Attempt, Keeper
from mlstack.train.worker.means import share_means
from mlstack.train.worker.privacy import Private, spent_at_end
from mlstack.train.worker.ranks import Job
from mlstack.train.worker.running import RunningMetrics
from mlstack.train.worker.speed import Speedometer
from mlstack.train.worker.stop import StopRequest
from mlstack.train.worker.strategy import is_sharded, load_weights, shard, strategy_of
from mlstack.train.worker.thrift import Unprofiled, lighten, lighten_model

OURS = {  # Trainer argument -> the setting that decides it
    "accelerator": "train.gpus",
    "devices": "train.gpus",
    "num_nodes": "train.gpus",
    "strategy": "train.strategy",
    "precision": "train.precision",
    "max_epochs": "train.epochs",
    "max_time": "train.max_time",
    "accumulate_grad_batches": "train.accumulate",
    "callbacks": "model.class (configure_callbacks)",
    "logger": "track.mirror",
    "plugins": "model.class",
    "use_distributed_sampler": "data.module",
    "enable_checkpointing": "train.monitor",
    "default_root_dir": "nothing; a run has its own folder",
}


def fit(job: Job, stop: StopRequest, *, resume: bool) -> None:
    """Train, test, and append `Finished` or `Stopped`."""
    began = time.monotonic()
    seed_everything(job.spec.seed, workers=True, verbose=False)
    last, position = newest(job.folder / CHECKPOINTS) if resume else (None, Position())
    if position.best is not None:  # without it the end would be told of other weights
        read_checkpoint(job.folder / CHECKPOINTS / BEST)
    average = Averaged(job.config.train.ema) if job.config.train.ema else None
    keeper = Keeper(job, position, stop, Attempt(_attempt(job.folder), average))
    announce_reading(job)
    model, data = equip(job, build_model(job)), build_data(job, keeper.place)
    if job.config.train.accumulate > 1 and not model.automatic_optimization:
        raise ConfigError(
            "train.accumulate: the model optimizes by hand (automatic_optimization = False)",
            hint="write `accumulate: 1`, and have training_step step every so many batches",
        )
    if sharded := is_sharded(job, model):
        shard(model)
    wanted, limit = job.config.train.privacy, job.config.train.hang_limit
    private = Private(job, wanted, model) if wanted else None
    heartbeat = Heartbeat(job, seconds(limit) if limit else None)
    others = [RunningMetrics(job, position), heartbeat, *_reporters(job, stop)]
    callbacks = [*([average] if average else []), *([private] if private else []), *others, keeper]
    strategy = strategy_of(job, sharded=sharded, by_hand=not model.automatic_optimization)
    trainer = build_trainer(job, callbacks, strategy=strategy)
    if job.rank.count > 1:
        share_means(trainer)
    try:
        if stop.asked and job.rank.count == 1:
            raise Interrupted("stopped before the first step")
        trainer.fit(lighten_model(model), datamodule=data, ckpt_path=str(last) if last else None)
        if trainer.num_training_batches == 0 and not keeper.position.epoch:
            raise DataError(  # Lightning takes a loader without batches for a fit that is done
                "the loader of train gives no batch",
                hint="is its dataset empty, or smaller than a batch and drop_last is set?",
            )
        tested = _test(job, trainer, model, data)
    except (Interrupted, SIGTERMException):
        _tell_stopped(job, trainer, stop)
        return
    if job.rank.number == 0:
        finished = Finished(
            run=job.spec.id,
            at=time.time(),
            step=trainer.global_step,
            epoch=keeper.position.epoch,
            metrics=keeper.position.best_metrics
            | tested
            | spent_at_end(private, trainer.global_step),
            seconds=time.monotonic() - began,
        )
        append_event(job.folder, finished)


def build_trainer(job: Job, callbacks: list[Any], **changed: Any) -> Trainer:
    """Build a Trainer that launches, prints and logs nothing of its own.

    Raises:
        ConfigError: train.trainer_args names something unknown or decided elsewhere.
        MachineError: the run asks for a GPU that torch does not see.
    """
    train = job.config.train
    for name in train.trainer_args:
        if name in OURS:
            raise ConfigError(
                f"train.trainer_args.{name}: this is decided by {OURS[name]}",
                hint=f"remove `{name}` from train.trainer_args",
            )
    on_gpu = bool(job.spec.gpus)
    if on_gpu and not torch.cuda.is_available():
        raise MachineError(
            "the run asks for GPUs, but this torch sees none", hint="type `mlstack doctor`"
        )
    offered = {
        "accelerator": "gpu" if on_gpu else "cpu",
        "devices": job.rank.local_count,
        "num_nodes": job.rank.count // job.rank.local_count,
        "strategy": "auto",  # of one rank; `fit` says what several do
        "precision": _precision(train, on_gpu=on_gpu),
        "max_epochs": train.epochs,
        "accumulate_grad_batches": train.accumulate,
        "max_time": timedelta(seconds=seconds(train.max_time)) if train.max_time else None,
        "callbacks": [lighten(callback) for callback in callbacks],
        "profiler": Unprofiled(),
        "plugins": [WholeFiles()],
        "logger": False,
        "use_distributed_sampler": False,  # sampling.py shares the examples, without repeats
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "default_root_dir": str(job.folder),
    }
    trainer: Trainer = construct(
        Trainer, train.trainer_args, offered | changed, key="train.trainer_args"
    )
    return trainer


def _reporters(job: Job, stop: StopRequest) -> list[Any]:
    testing = [StopWhileTesting(stop)] if job.rank.count == 1 else []
    return [Progress(job), Speedometer(job), *testing] if job.rank.number == 0 else testing


def _test(
    job: Job, trainer: Trainer, model: LightningModule, data: LightningDataModule
) -> dict[str, float]:
    """Measure the best weights on the test part, if there is one and the model has a test step."""
    best = job.folder / CHECKPOINTS / BEST
    if best.is_file():
        load_weights(model, read_checkpoint(best)["state_dict"])
    if not is_overridden("test_step", model) or job.spec.dataset.split.get("test") == 0:
        return {}
    (metrics,) = trainer.test(model, datamodule=data, verbose=False) or [{}]
    numbers = {name: float(value) for name, value in metrics.items()}
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def _precision(train: Train, *, on_gpu: bool) -> str:
    if train.precision == "fp16" and not on_gpu:
        raise ConfigError(
            "train.precision: fp16 needs a GPU", hint="write `precision: auto`, or bf16"
        )
    if train.precision == "auto" and train.privacy is None:
        fast = on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16-mixed" if fast else "32-true"
    return {"auto": "32-true", "fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}[
        train.precision
    ]


def _attempt(folder: Path) -> int:
    return 1 + sum(isinstance(event, Started) for event in read_events(folder))


def _saved(folder: Path) -> int:
    steps = [event.step for event in read_events(folder) if isinstance(event, CheckpointSaved)]
    return steps[-1] if steps else 0


def _tell_stopped(job: Job, trainer: Trainer, stop: StopRequest) -> None:
    if job.rank.number == 0:
        reason = stop.reason or "another rank was asked to stop"
        step = trainer.global_step or _saved(job.folder)  # a resume may not have come to load
        event = Stopped(run=job.spec.id, at=time.time(), step=step, reason=reason)
        append_event(job.folder, event)
