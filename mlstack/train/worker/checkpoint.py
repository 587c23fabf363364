"""Checkpoints: whole on the disk or not there, plain to load, exact to go on from."""

import random
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, cast

import numpy as np
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from mlstack import files
from mlstack.errors import ConfigError, DataError
from mlstack.records.run import LAST, OLDER

SOME = 1 << 20  # bytes that a disk has room for, unless it is full
AGAIN = "train again: `mlstack train --from-run` with the run's id"
KEY = "mlstack"  # our own part of a Lightning checkpoint


@dataclass
class Position:
    """Where a run stands: what Lightning's own checkpoint leaves out."""

    epoch: int = 0  # epochs that are over
    batch: int = 0  # batches of the next one that are over
    best: float | None = None
    best_metrics: dict[str, float] = field(default_factory=dict)
    stale: int = 0  # epochs since the best one
    over: bool = False  # trained to its end; only the test is left
    rng: list[dict[str, Any]] = field(default_factory=list)  # one of each rank
    began: list[dict[str, Any]] = field(default_factory=list)  # the same, as the epoch began
    running: list[dict[str, Any]] = field(default_factory=list)  # metrics so far, of each rank

    def to_plain(self) -> dict[str, Any]:
        """Give what a checkpoint keeps under `mlstack`."""
        return dict(vars(self))


class WholeFiles(TorchCheckpointIO):
    """Writes beside, syncs, renames; loads nothing but plain data."""

    def __init__(self) -> None:
        super().__init__()
        self._proven: set[str] = set()  # names under which what is saved can be read again

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write a checkpoint so that no half of it is ever seen under its name.

        Raises:
            MachineError: the disk is full; what was written of it is gone again.
            ConfigError: the user's code keeps in it what is no plain data.
        """
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.tmp")
        for name in ("hyper_parameters", "datamodule_hyper_parameters"):
            if name in checkpoint:
                checkpoint[name] = plain(checkpoint[name])
        try:
            torch.save(checkpoint, beside)
            files.sync_file(beside)
        except (RuntimeError, OSError) as error:
            _ask_the_disk(beside, target, error)
            raise
        if target.name not in self._proven:
            _prove(beside)
            self._proven.add(target.name)
        files.move(beside, target)

    def load_checkpoint(
        self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read a checkpoint without running any code that it might hold."""
        return read_checkpoint(Path(path), map_location)


def _prove(beside: Path) -> None:
    """Read what was written, once: a run that could not be gone on with says so at its start."""
    try:
        torch.load(beside, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch has no class of its own for this
        beside.unlink()
        raise ConfigError(
            f"the state of the run cannot be read again: {_why(error)}",
            hint="keep tensors, numbers, texts, lists and dicts in on_save_checkpoint, state_dict "
            "and the like: float(x), torch.from_numpy(x), list(x)",
        ) from error


def _why(error: Exception) -> str:
    """Say what torch does not read, without its advice to trust it."""
    found = re.search(r"Unsupported (?:global: GLOBAL|class) (\S+)", str(error))
    if found:
        return f"it holds a `{found[1]}`"
    is_advice = "weights_only" in f"{error}"
    return "it holds no plain data" if is_advice else f"{error}".strip().split("\n")[0]


def _ask_the_disk(beside: Path, target: Path, error: Exception) -> None:
    """Tell a disk that takes no more, of which torch says nothing, from any other error."""
    try:
        if isinstance(error, OSError):
            raise files.cannot_write(target, error) from error
        files.extend(beside, [bytes(SOME)])
    finally:
        beside.unlink(missing_ok=True)


def read_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        DataError: it is missing, damaged, or holds more than plain data.
    """
    try:
        found: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
    except FileNotFoundError as error:
        raise DataError(f"there is no checkpoint `{path}`", hint=AGAIN) from error
    except Exception as error:  # torch has no class of its own for this
        raise DataError(
            f"`{path}` is not a whole checkpoint: {_why(error)}",
            hint=AGAIN,
        ) from error
    return found


def read_position(path: Path) -> Position:
    """Read where the run of a checkpoint stands.

    Raises:
        DataError: the checkpoint is damaged or not of mlstack.
    """
    stored = read_checkpoint(path).get(KEY)
    if stored is None:
        raise DataError(f"`{path}` was not written by mlstack", hint="train again")
    return Position(**stored)


def keep_older(folder: Path, count: int) -> None:
    """Give last.ckpt a second name that the next save leaves, and drop what is older than `count`.

    The name sorts by the number of saves, which the file itself does not tell.
    """
    older = sorted(folder.glob(OLDER))
    number = int(older[-1].stem.rpartition("-")[2]) + 1 if older else 1
    files.link(folder / LAST, folder / OLDER.replace("*", f"{number:06d}"))
    for path in older[: max(0, len(older) + 1 - count)]:
        path.unlink(missing_ok=True)


def newest(folder: Path) -> tuple[Path | None, Position]:
    """Find the newest checkpoint that is whole, and where its run stands; none is the start.

    Raises:
        DataError: every one of them is damaged.
    """
    candidates = [folder / LAST, *sorted(folder.glob(OLDER), reverse=True)]
    damaged: DataError | None = None
    for path in candidates:
        if path.is_file():
            try:
                return path, read_position(path)
            except DataError as error:
                damaged = damaged or error
    if damaged is not None:
        raise damaged
    return None, Position()


def plain(value: Any) -> Any:
    """Turn hyper-parameters into what `torch.load(weights_only=True)` accepts."""
    if value is None or isinstance(value, bool | int | float | str | torch.Tensor):
        return value
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, np.generic):
        return value.item()
    return str(value) if isinstance(value, PurePath) else repr(value)


def rng_state() -> dict[str, Any]:
    """Give the state of every random generator of this process, as plain data."""
    kind, keys, place, has_gauss, gauss = cast("tuple[Any, ...]", np.random.get_state(legacy=True))
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), place, has_gauss, gauss],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_rng(state: dict[str, Any]) -> None:
    """Put every random generator of this process back."""
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
    kind, keys, place, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), place, has_gauss, gauss))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def at_epoch_start(loops: dict[str, Any], epochs: int) -> None:
    """Rewrite Lightning's counters: `epochs` are over, and no batch of the next one.

    Lightning saves its counters as they are inside whatever hook saves, and on loading guesses
    from their differences which hook it was. Between two epochs it guesses wrong in several ways
    (Trainer 2.6, `RestartStage`), so the counters are made those of a loop at rest.
    """
    fit = loops["fit_loop"]
    done = dict.fromkeys(("ready", "started", "processed", "completed"), epochs)
    fit["epoch_progress"] = {"total": dict(done), "current": dict(done)}
    batches = fit["epoch_loop.batch_progress"]
    total = batches["total"]["ready"]
    batches["total"] = dict.fromkeys(batches["total"], total)
    batches["current"] = dict.fromkeys(batches["current"], 0)
    batches["is_last_batch"] = False
