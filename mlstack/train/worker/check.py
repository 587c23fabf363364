"""`train --check`: a few seconds that find what would waste hours.

After A. Karpathy, "A Recipe for Training Neural Networks" (2019): look at the data, verify the
loss at the start, overfit one batch, make sure that the output depends on the input.
"""

import math
import os
import re
import resource
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import seed_everything
from torch import Tensor

from mlstack.errors import MlstackError
from mlstack.inputs.tables import TableSpec
from mlstack.launch.memory import memory
from mlstack.launch.user_code import in_words
from mlstack.records.run import CHECKPOINTS, Finished, Started, append_event, read_events
from mlstack.train.worker.build import announce_reading, batch_size, build_data, build_model
from mlstack.train.worker.checkpoint import read_checkpoint
from mlstack.train.worker.equip import equip
from mlstack.train.worker.failure import NO_MEMORY, hint_of
from mlstack.train.worker.fit import build_trainer
from mlstack.train.worker.one_batch import LEAP, of_one_batch
from mlstack.train.worker.preview import augmented
from mlstack.train.worker.probes import Seen, Verdict, of_both, of_data, outputs, tensors
from mlstack.train.worker.ranks import Job, Rank, reach_all
from mlstack.train.worker.stop import StopRequest
from mlstack.train.worker.trial import STEPS, Trial, again

LOOK = "read the traceback in the log of this run"
BATCHES = 20  # that are looked at, unless they are larger or slower than this
LOOK_BYTES = 256 << 20
LOOK_S = 10.0
WAIT_S = 0.2
# torchelastic's variables, by which Lightning would look for the other ranks.
ELASTIC = re.compile(r"(LOCAL_|GROUP_|ROLE_)?(RANK|WORLD_SIZE)|MASTER_(ADDR|PORT)|TORCHELASTIC_.*")
FULL = 0.9  # of the memory
GIGA = 1e9
FEW: dict[str, Any] = {
    "max_epochs": 1,
    "max_time": None,
    "enable_checkpointing": False,
    "accumulate_grad_batches": 1,
}


def check(job: Job, stop: StopRequest) -> None:
    """Append a `Checked` for each check, then `Finished`; rank 0 does all but reach the others."""
    began = time.monotonic()
    if not job.rank.number:
        append_event(job.folder, Started(run=job.spec.id, at=time.time(), ranks=job.rank.count))
    reached = _ranks(job)
    if job.rank.number:
        _wait(job.folder, stop)
        return
    job = _alone(job)
    seed_everything(job.spec.seed, workers=True, verbose=False)
    for verdict in chain(reached, verdicts(job)):
        append_event(job.folder, verdict.event(job.spec.id))
    finished = Finished(
        run=job.spec.id,
        at=time.time(),
        step=0,
        epoch=0,
        metrics={},
        seconds=time.monotonic() - began,
    )
    append_event(job.folder, finished)


def _wait(folder: Path, stop: StopRequest) -> None:
    """Stay while rank 0 works: a rank that leaves before the end is a failure."""
    while not stop.asked and not any(isinstance(one, Finished) for one in read_events(folder)):
        time.sleep(WAIT_S)


def _alone(job: Job) -> Job:
    """Give rank 0 its share of the work, and have Lightning know of no other rank."""
    if job.rank.count == 1:
        return job
    for name in [name for name in os.environ if ELASTIC.fullmatch(name)]:
        del os.environ[name]
    mine = {"batch_size": batch_size(job), "accumulate": 1}
    train = job.config.train.model_copy(update=mine)
    return replace(job, rank=Rank(), config=job.config.model_copy(update={"train": train}))


def verdicts(job: Job) -> Iterator[Verdict]:
    """Check the data, the model and both together, until one fails that the rest needs."""
    model = equip(job, build_model(job))
    announce_reading(job)
    data = build_data(job)
    data.prepare_data()
    data.setup("fit")
    batches, load_s = _timed(data.train_dataloader())
    val, _ = _timed(data.val_dataloader())
    found = _data(batches, val[0] if val else None, len(job.spec.classes))
    yield found
    if not found.passed:
        return
    again = next(iter(data.val_dataloader()))
    spec = getattr(data, "input_spec", None)
    origins = tuple(spec.origins) if isinstance(spec, TableSpec) else ()
    seen = Seen(batches, val, again, len(job.spec.classes), load_s, origins)
    yield from of_data(seen)
    drawn = augmented(job, batches[0])
    if drawn is not None:
        yield drawn
    trial = Trial(job, model, batches[0], val[0])
    for one in (_step, _memory):
        found = one(trial)
        yield found
        if not found.passed:
            return
    yield from of_one_batch(trial)
    yield _monitor(trial)
    depends = _input(trial)
    yield depends
    yield _checkpoint(trial)
    yield from of_both(seen, model, trial.watch.step_s, is_dead=not depends.passed)


def _ranks(job: Job) -> list[Verdict]:
    """Have all ranks add up a number; every rank calls this."""
    if job.rank.count == 1:
        return []
    name, wanted = "ranks reach each other", job.rank.count
    try:
        total, backend = reach_all(job.rank)
    except (RuntimeError, ValueError) as error:
        said = in_words(error, Path(job.spec.root))
        hint = "see the logs of the other ranks, and `mlstack doctor`"
        return [Verdict(name, False, said, hint)]
    detail = f"{wanted} ranks added up {total} over {backend}"
    return [Verdict(name, total == wanted, detail, "see `mlstack doctor`")]


def _timed(loader: Any) -> tuple[list[Any], float]:
    """Take the first batches of a loader, and the seconds that one takes but for the first."""
    batches: list[Any] = []
    ended: list[float] = []
    size, began = 0, time.monotonic()
    for batch in islice(iter(loader), BATCHES):
        batches.append(batch)
        ended.append(time.monotonic())
        size += sum(one.nbytes for one in tensors(batch))
        if len(batches) > 1 and (size > LOOK_BYTES or ended[-1] - began > LOOK_S):
            break
    return batches, (ended[-1] - ended[0]) / (len(ended) - 1) if len(ended) > 1 else 0.0


def _data(batches: list[Any], val_batch: Any, classes: int) -> Verdict:
    name = "data loads"
    if not batches or val_batch is None:
        part = "train" if not batches else "val"
        return Verdict(
            name, False, f"the {part} part has no batch", "add data, or change data.split"
        )
    for batch in [*batches, val_batch]:
        for tensor in tensors(batch):
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                return Verdict(name, False, "a batch holds NaN or infinity", "clean the data")
        wrong = _wrong_targets(batch, classes)
        if wrong:
            return Verdict(name, False, wrong, "give the column `target` of the examples as it is")
    shapes = ", ".join(_describe(tensor) for tensor in tensors(batches[0]))
    return Verdict(name, True, f"a batch is {shapes}")


def _wrong_targets(batch: Any, classes: int) -> str:
    parts = tensors(batch)
    if not classes or len(parts) < 2:
        return ""
    targets = parts[-1]
    if targets.is_floating_point() or targets.ndim != 1 or not targets.numel():
        return ""
    low, high = int(targets.min()), int(targets.max())
    if low >= 0 and high < classes:
        return ""
    return f"targets go from {low} to {high}, but {classes} classes count from 0 to {classes - 1}"


def _step(trial: Trial) -> Verdict:
    """Train on one batch and validate one; whatever the user's code raises is the verdict."""
    name = "a step runs"
    trial.trainer = build_trainer(trial.job, [trial.watch], **FEW)
    try:
        trial.trainer.fit(
            trial.model,
            train_dataloaders=again(trial.batch, STEPS),
            val_dataloaders=again(trial.val_batch, 1),
        )
    except MlstackError:
        raise
    except Exception as error:
        if any(words in str(error) for words in NO_MEMORY):
            size = trial.job.config.train.batch_size
            detail = f"a batch of {size} does not fit into memory"
            return Verdict("memory", False, detail, f"train.batch_size: {max(1, size // 2)}")
        said = in_words(error, Path(trial.job.spec.root))
        return Verdict(name, False, said, hint_of(error) or LOOK)
    if not trial.watch.losses:
        return Verdict(name, False, "training_step was never run", "see train.trainer_args")
    if math.isinf(trial.watch.losses[0]) and trial.model.automatic_optimization:
        return Verdict(name, False, "training_step gives no finite loss", "return the loss")
    return Verdict(name, True, f"{len(trial.watch.losses)} steps on one batch, one validated")


def _memory(trial: Trial) -> Verdict:
    """Compare what one batch took with what there is."""
    name, size = "memory", trial.job.config.train.batch_size
    if trial.model.device.type == "cuda" or torch.cuda.is_available():
        used, total = torch.cuda.max_memory_reserved(), torch.cuda.mem_get_info()[1]
        where = torch.cuda.get_device_name()
    else:
        used = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        total, where = memory().total, "main memory"
    detail = f"{used / GIGA:.1f} of {total / GIGA:.1f} GB of {where} with batches of {size}"
    if used > FULL * total:
        return Verdict(name, False, detail, f"train.batch_size: {max(1, size // 2)}")
    return Verdict(name, True, detail)


def _monitor(trial: Trial) -> Verdict:
    assert trial.trainer is not None
    name, wanted = "validation logs the monitored metric", trial.job.config.train.monitor
    logged = {key: float(value) for key, value in trial.trainer.callback_metrics.items()}
    if wanted not in logged:
        names = ", ".join(sorted(logged)) or "nothing"
        return Verdict(name, False, f"no `{wanted}`; logged: {names}", "change train.monitor")
    if (ranks := trial.job.spec.ranks) > 1 and wanted in trial.watch.of_one_rank:
        detail = f"of {ranks} ranks, `{wanted}` would be that of the first one's share alone"
        return Verdict(name, False, detail, "self.log(..., sync_dist=True)")
    return Verdict(name, True, f"{wanted} {logged[wanted]:.3f}")


def _input(trial: Trial) -> Verdict:
    name = "output depends on the input"
    try:
        rows = outputs(trial.model, tensors(trial.batch)[0])
    except Exception as error:  # whatever the user's forward raises is the verdict
        said = in_words(error, Path(trial.job.spec.root))
        return Verdict(name, False, said, "forward must take the first part of a batch alone")
    if rows.ndim < 1 or len(rows) < 2:
        return Verdict(name, True, "one row only; not tested")
    spread = float((rows - rows[:1]).abs().max())
    if spread <= 1e-6 * max(1.0, float(rows.abs().max())):
        is_torn = trial.watch.leap > LEAP
        hint = "lower the learning rate" if is_torn else "use the input in forward"
        return Verdict(name, False, "all examples of a batch get the same output", hint)
    return Verdict(name, True, f"outputs of one batch differ by up to {spread:.3g}")


def _checkpoint(trial: Trial) -> Verdict:
    assert trial.trainer is not None
    name = "a checkpoint gives the same outputs"
    path = trial.job.folder / CHECKPOINTS / "check.ckpt"
    trial.trainer.save_checkpoint(path, weights_only=False)
    try:
        again = build_model(trial.job)
        again.load_state_dict(read_checkpoint(path)["state_dict"])
        same = torch.equal(
            outputs(trial.model.cpu(), tensors(trial.val_batch)[0]),
            outputs(again, tensors(trial.val_batch)[0]),
        )
    except Exception as error:  # a state that cannot be saved, loaded or used again
        said = in_words(error, Path(trial.job.spec.root))
        return Verdict(name, False, said, "keep plain data in the module's state")
    finally:
        path.unlink(missing_ok=True)
    if not same:
        return Verdict(
            name, False, "outputs differ after loading", "keep all state in parameters or buffers"
        )
    return Verdict(name, True, "saved, loaded into a new model, compared bit by bit")


def _describe(tensor: Tensor) -> str:
    shape = " x ".join(map(str, tensor.shape)) or "one"
    return f"{str(tensor.dtype).removeprefix('torch.')} {shape}"
