"""Keeps a run: which epoch is best, last.ckpt and best.ckpt, and leaving when asked to."""

import math
import time
from contextlib import nullcontext
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer, seed_everything
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.loops.loop import _Loop
from torch import distributed

from mlstack import files
from mlstack.errors import ConfigError, Interrupted, StepError
from mlstack.records.run import (
    BEST,
    CHECKPOINTS,
    LAST,
    CheckpointSaved,
    EpochEnded,
    RunEvent,
    Started,
    append_event,
)
from mlstack.train.worker.averaging import Averaged
from mlstack.train.worker.checkpoint import (
    KEY,
    Position,
    at_epoch_start,
    keep_older,
    restore_rng,
    rng_state,
)
from mlstack.train.worker.ranks import Agreement, Job
from mlstack.train.worker.running import running_metrics
from mlstack.train.worker.sampling import Drawn, OwnOrder
from mlstack.train.worker.stop import StopRequest

SAVE_EVERY_S = 30.0  # inside an epoch
SAVE_SHARE = 0.05  # of the time may go into saving


@dataclass(frozen=True)
class Attempt:
    """One go at a run."""

    number: int  # counts from 1
    average: Averaged | None = None  # of the weights: what is judged and kept


class Keeper(Checkpoint):
    """Judges every epoch, saves, and stops between two steps.

    Lightning calls it after the module's own hooks, since it is a `Checkpoint`.
    """

    def __init__(self, job: Job, position: Position, stop: StopRequest, attempt: Attempt) -> None:
        self.job = job
        self.position = position
        self.stop = stop
        self.attempt = attempt
        self.agreement = Agreement(job.rank)
        self._resuming = bool(position.rng)
        self._placed = False
        self._at_rest = False
        self._began: dict[str, Any] = {}
        self._asked = False
        self._validated = False  # in this epoch
        self._of_val: set[str] = set()
        self._epoch_began = time.monotonic()
        self._saved_at = time.monotonic()
        self._saving_s = 0.0

    def place(self, sampler: Drawn) -> None:
        """Let a sampler of train go on where the run stands.

        Reading examples may draw random numbers (augmentation), so in the middle of an epoch the
        generators are put back just before the first example is read, not when the step begins.
        """
        sampler.set_epoch(self.position.epoch)
        if isinstance(sampler, OwnOrder):
            sampler.on_begin = self._begin
        if self._resuming and self.position.batch:
            sampler.go_on(self.position.epoch, self.position.batch)
            sampler.on_start = self._restore
            self._placed = True

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Train no further where only the test was broken off, whatever ended the fit."""
        trainer.should_stop = self.position.over

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say that all ranks are up."""
        self.stop.install()
        self.agreement.start()
        number = self.job.rank.number
        if number and not self.position.rng:
            seed_everything(self.job.spec.seed + number, verbose=False)  # other dropout than rank 0
        if self.position.batch:
            self._resuming = self._resuming and self._placed
            self._put_back()
        self._tell(
            Started(
                run=self.job.spec.id,
                at=time.time(),
                attempt=self.attempt.number,
                parameters=sum(p.numel() for p in pl_module.parameters()),
                device=_device_name(pl_module.device),
                ranks=self.job.rank.count,
                step=trainer.global_step,
            )
        )

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Between two epochs everything is at rest: save, and leave if asked."""
        self._epoch_began = time.monotonic()
        self._validated = False
        self.position.epoch, self.position.batch = trainer.current_epoch, 0
        if self._resuming:
            self._restore()
        elif trainer.current_epoch:
            self._save_last(trainer, at_rest=True)
        if self.agreement.any_now(stop=self.stop.asked or self._asked):
            self._leave()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Save once in a while, and save and leave if asked."""
        due = time.monotonic() - self._saved_at > max(SAVE_EVERY_S, self._saving_s / SAVE_SHARE)
        asked, due = self.agreement.any(
            stop=self.stop.asked, save=due and self.job.rank.number == 0
        )
        self._asked = self._asked or asked
        accumulating = (batch_idx + 1) % trainer.accumulate_grad_batches
        if accumulating or batch_idx + 1 >= trainer.num_training_batches:
            return  # the end of an epoch is saved after its validation
        self.position.epoch, self.position.batch = trainer.current_epoch, batch_idx + 1
        if due or self._asked:
            self._save_last(trainer, at_rest=False)
        if self._asked:
            self._leave()

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Judge the same model on every rank: buffers (batch norm) are those of rank 0."""
        if self.job.rank.count > 1:
            for buffer in pl_module.buffers():
                distributed.broadcast(buffer, src=0)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note what is logged in validation, which not every epoch need have."""
        results = trainer._results
        if results is not None and not trainer.sanity_checking:
            self._validated = True
            self._of_val |= set(results.metrics(on_step=False)["callback"])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Judge the epoch by `train.monitor`, keep the best weights, report."""
        # Else ReduceLROnPlateau is left out once. The loop's setter makes it True for max_steps.
        _Loop.restarting.fset(trainer.fit_loop, False)  # type: ignore[attr-defined]
        stale = set() if self._validated else self._of_val  # what an earlier epoch was judged by
        logged = trainer.callback_metrics.items()
        mine = {name: float(value) for name, value in logged if name not in stale}
        metrics: dict[str, float] = self.agreement.first(mine)
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        best = self._judge(trainer, metrics)
        if best:
            self.position.best_metrics = finite
            average = self.attempt.average
            with average.worn(pl_module) if average else nullcontext():
                self._save(trainer, BEST, weights_only=True)
        epochs = self.job.config.train.epochs
        self._tell(
            EpochEnded(
                run=self.job.spec.id,
                at=time.time(),
                epoch=trainer.current_epoch + 1,
                epochs=epochs,
                step=trainer.global_step,
                metrics=finite,
                best=best,
                seconds=time.monotonic() - self._epoch_began,
            )
        )
        patience = self.job.config.train.patience
        if patience is not None and self.position.stale >= patience:
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the end, so that a test that is broken off can be done again."""
        self.agreement.any_now(stop=False)  # hear the last step's answer before the group closes
        self.position.epoch, self.position.batch = trainer.current_epoch, 0
        self.position.over = True
        self._save_last(trainer, at_rest=True)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, object]
    ) -> None:
        """Add what Lightning leaves out; every rank comes here."""
        self.position.rng = self.agreement.gather(rng_state())
        checkpoint[KEY] = self.position.to_plain()
        if self._at_rest:
            at_epoch_start(checkpoint["loops"], self.position.epoch)  # type: ignore[arg-type]
        else:
            began = self.agreement.gather(self._began) if self._began else []
            so_far = self.agreement.gather(running_metrics(trainer, pl_module))
            checkpoint[KEY]["began"] = began  # type: ignore[index]
            checkpoint[KEY]["running"] = so_far  # type: ignore[index]

    def _judge(self, trainer: Trainer, metrics: dict[str, float]) -> bool:
        wanted, mode = self.job.config.train.monitor, self.job.config.train.mode
        value = metrics.get(wanted)
        if value is None:
            every, ended = trainer.check_val_every_n_epoch, trainer.current_epoch + 1
            cut = trainer.global_step == trainer.max_steps
            if not self._validated and (cut or not every or ended % every):
                return False
            raise _not_logged(wanted, metrics)
        if math.isnan(value):
            raise StepError(
                f"`{wanted}` is not a number after epoch {trainer.current_epoch + 1}",
                hint="lower the learning rate; `mlstack train --check` looks for the cause",
            )
        best = self.position.best
        better = best is None or (value > best if mode == "max" else value < best)
        if better:
            self.position.best = value
        self.position.stale = 0 if better else self.position.stale + 1
        return better

    def _save_last(self, trainer: Trainer, *, at_rest: bool) -> None:
        began = time.monotonic()
        self._at_rest = at_rest
        self._save(trainer, LAST, weights_only=False)
        if self.job.rank.number == 0 and self.job.config.train.keep_last > 1:
            keep_older(self.job.folder / CHECKPOINTS, self.job.config.train.keep_last)
        self._saved_at = time.monotonic()
        self._saving_s = self._saved_at - began

    def _save(self, trainer: Trainer, name: str, *, weights_only: bool) -> None:
        path = self.job.folder / CHECKPOINTS / name
        trainer.save_checkpoint(path, weights_only=weights_only)
        if self.job.rank.number == 0:
            self._tell(
                CheckpointSaved(
                    run=self.job.spec.id,
                    at=time.time(),
                    file=f"{CHECKPOINTS}/{name}",
                    step=trainer.global_step,
                    sha256=files.sha256(path),
                )
            )

    def _begin(self) -> None:
        """Note the generators as an epoch begins, or put them back for what is read again."""
        number = self.job.rank.number
        if self._resuming and number < len(self.position.began):
            restore_rng(self.position.began[number])
        self._began = rng_state()

    def _restore(self) -> None:
        if self._resuming:
            self._resuming = False
            self._put_back()

    def _put_back(self) -> None:
        number = self.job.rank.number
        if number < len(self.position.rng):
            restore_rng(self.position.rng[number])

    def _leave(self) -> None:
        raise Interrupted("stopped between two steps; the state is saved")

    def _tell(self, event: RunEvent) -> None:
        if self.job.rank.number == 0:
            append_event(self.job.folder, event)


def _not_logged(wanted: str, metrics: dict[str, float]) -> ConfigError:
    near = get_close_matches(wanted, metrics, n=1)
    logged = ", ".join(sorted(metrics)) or "nothing"
    return ConfigError(
        f"train.monitor: the model logs no `{wanted}`",
        hint=(f"did you mean `{near[0]}`? " if near else "") + f"it logs {logged}",
    )


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
