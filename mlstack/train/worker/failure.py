"""An exception of a rank -> the `Failed` event that tells it."""

import re
import time
import traceback
from bdb import BdbQuit
from pathlib import Path

import psutil

from mlstack.errors import MlstackError
from mlstack.launch.user_code import in_words, readable, text_of
from mlstack.records.run import Failed, append_event, read_events

OTHER_WIDTH = re.compile(  # what BatchNorm and Linear of torch say
    r"running_mean should contain (\d+) elements not (\d+)"
    r"|shapes cannot be multiplied \(\d+x(\d+) and (\d+)x\d+\)"
)
TOO_FEW = re.compile(r"target (\d+) is out of bounds")
UNUSED = ("parameters that were not used in producing", "expected to have finished reduction")
SAID = {  # what torch and Lightning say -> what to do
    "does not require grad and does not have a grad_fn": (
        "the loss depends on no parameter that is trained: are all of them frozen, or is it made "
        "under no_grad(), or of numbers that detach() or item() gave?"
    ),
    "backward through the graph a second time": (
        "call backward() once a step: with automatic optimization Lightning does, for the loss "
        "that training_step returns"
    ),
    "no `training_step()` method": (
        "write training_step in the LightningModule; is its name spelled like that?"
    ),
    "implicitly created only for scalar outputs": (
        "return one number from training_step, such as `loss.mean()`"
    ),
    "invalid dataloader was returned": (
        "return a DataLoader there; without examples of val leave val_dataloader away"
    ),
    "exited unexpectedly": (
        "a process of the DataLoader died: does the code end it, or is memory short? num_workers=0 "
        "reads in the worker itself, which can say more"
    ),
    "`training_step` must return a tensor": "return the loss as a tensor, without item()",
    "expected target dtype to be long": "make the targets int64 where the data module reads them",
    "expected scalar type long but found float": (
        "make the targets int64 where the data module reads them"
    ),
    "tensor must have a single element": "log one number, such as `value.mean()`",
    "index out of range in self": (
        "an embedding got a number that it has no row for; where these are tokens, "
        "`vocabulary` must be the same in data.args and model.args of mlstack.yaml"
    ),
    "no `configure_optimizers()` method": (
        "write configure_optimizers in the LightningModule; is its name spelled like that?"
    ),
    "eof when reading a line": "take input() out: a run has no terminal",
}
OPTIMIZERS = "_init_optimizers_and_lr_schedulers"  # where Lightning reads what the method gave
NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def tell_failure(folder: Path, run: str, rank: int, error: BaseException, root: Path) -> None:
    """Append `Failed`, unless another rank of this attempt was first."""
    began = psutil.Process().create_time()  # what was said before is of an earlier attempt
    if any(isinstance(one, Failed) and one.at >= began for one in read_events(folder)):
        return
    known = error if isinstance(error, MlstackError) else None
    failed = Failed(
        run=run,
        at=time.time(),
        rank=rank,
        problem=_across_processes(known.problem) if known else in_words(error, root),
        hint=known.hint if known else hint_of(error),
        traceback=readable("".join(traceback.format_exception(error))),
        category=type(error).__name__ if known else "StepError",
    )
    append_event(folder, failed)


def hint_of(error: BaseException) -> str:
    """Say what to do about an error that says nothing of it."""
    words = text_of(error).lower()
    if isinstance(error, SystemExit):
        return "take what ends the process out of the code; mlstack ends it when the run is over"
    if any(frame.name == OPTIMIZERS for frame in traceback.extract_tb(error.__traceback__)):
        return (
            "configure_optimizers must return an optimizer, or {'optimizer': ..., "
            "'lr_scheduler': {'scheduler': ..., 'monitor': ...}}"
        )
    if isinstance(error, MemoryError) or any(one in words for one in NO_MEMORY):
        return "make train.batch_size or the model smaller"
    if any(one in words for one in UNUSED):
        return (
            "several ranks need a gradient for every parameter: use all of them in the loss, or "
            "set requires_grad = False on the others; `mlstack train --check` names them"
        )
    if isinstance(error, BdbQuit):
        return "take breakpoint() out: a run has no terminal"
    if (beyond := TOO_FEW.search(words)) is not None:
        return (
            f"class {beyond[1]} needs an output: does the network give one for each class "
            "(num_classes, which mlstack fills in)?"
        )
    for said, hint in SAID.items():
        if said in words:
            return hint
    if (widths := OTHER_WIDTH.search(words)) is not None:
        given, taken = (number for number in widths.groups() if number)
        return (
            f"a layer that takes {taken} values was given {given}; where that is the number of "
            "features of a row, set it in model.args of mlstack.yaml"
        )
    return ""


def _across_processes(problem: str) -> str:
    """Take the problem out of what a loader's process sent: there it is the last line."""
    if "Original Traceback" not in problem:
        return problem
    return problem.strip().splitlines()[-1].partition(": ")[2]
