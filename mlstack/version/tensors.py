"""The weights in a torch checkpoint, read and compared without torch.

A checkpoint is a zip file: `data.pkl` describes tensors, `data/N` holds their numbers. The pickle
is read by a reader that knows only what describes tensors, so nothing in the file can run.
"""

import pickle
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlstack.errors import DataError

DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
}
BFLOAT16 = "BFloat16Storage"


@dataclass(frozen=True)
class Tensor:
    """Where a tensor's numbers are in its storage."""

    kind: str  # name of torch's storage class
    key: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class Difference:
    """A tensor that differs; without a distance it is missing or has another shape or type."""

    name: str
    problem: str
    distance: float | None = None  # largest absolute
    count: int = 0  # numbers that differ
    size: int = 0


def compare(first: Path, second: Path) -> list[Difference]:
    """Compare the weights of two checkpoints bit by bit; an empty list says that they are equal.

    Raises:
        DataError: one is missing or damaged, or holds no `state_dict`.
    """
    with _opened(first) as one, _opened(second) as two:
        ours, theirs = _described(one, first), _described(two, second)
        found = []
        for name in sorted(ours.keys() | theirs.keys()):
            a, b = ours.get(name), theirs.get(name)
            if a is None or b is None:
                found.append(Difference(name, "is in one of them only"))
            elif (a.kind, a.shape) != (b.kind, b.shape):
                found.append(Difference(name, f"{a.kind} {a.shape} then, {b.kind} {b.shape} now"))
            elif (change := _change(_numbers(one, a), _numbers(two, b), a.kind)) is not None:
                found.append(Difference(name, "differs", *change))
    return found


def _change(one: np.ndarray, two: np.ndarray, kind: str) -> tuple[float, int, int] | None:
    """Give the largest distance, how many numbers differ, and of how many; None when none does."""
    if one.tobytes() == two.tobytes():
        return None
    unequal = one.view(f"V{one.itemsize}") != two.view(f"V{two.itemsize}")
    left, right = (_widened(part, kind) for part in (one, two))
    with np.errstate(invalid="ignore"):
        distances = np.abs(left - right)
    known = distances[np.isfinite(distances)]
    return float(known.max(initial=0.0)), int(np.count_nonzero(unequal)), one.size


def _widened(part: np.ndarray, kind: str) -> np.ndarray:
    if kind == BFLOAT16:  # the upper half of a float32
        part = (part.astype("<u4") << 16).view("<f4")
    return part.astype("<f8")


def _numbers(archive: zipfile.ZipFile, tensor: Tensor) -> np.ndarray:
    """Read a tensor's numbers, contiguous."""
    root = archive.namelist()[0].partition("/")[0]
    content = np.frombuffer(archive.read(f"{root}/data/{tensor.key}"), DTYPES[tensor.kind])
    steps = [step * content.itemsize for step in tensor.stride]
    if tensor.shape and 0 not in tensor.shape:
        last = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride, strict=True))
        if tensor.offset + last >= content.size:
            raise DataError(
                f"`{tensor.key}` is shorter than its tensor", where=archive.filename or ""
            )
    view = np.lib.stride_tricks.as_strided(content[tensor.offset :], tensor.shape, steps)
    return np.ascontiguousarray(view).reshape(-1)


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"cannot read the checkpoint `{path}`: {error}") from error


def _described(archive: zipfile.ZipFile, path: Path) -> dict[str, Tensor]:
    try:
        name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        with archive.open(name) as stream:
            weights = _Reader(stream).load()["state_dict"]
        return {key: value for key, value in weights.items() if isinstance(value, Tensor)}
    except (StopIteration, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise DataError(f"`{path}` is not a checkpoint with a `state_dict`") from error


class _Reader(pickle.Unpickler):
    """Read descriptions of tensors; every other class becomes an empty object."""

    def find_class(self, module: str, name: str) -> Any:
        """Give the stand-in of a class."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _parameter
        return type(name, (_Other,), {})

    def persistent_load(self, pid: Any) -> tuple[str, str]:
        """Give the kind and the key of a storage."""
        _, kind, key, *_ = pid
        return kind.__name__, key


class _Other:
    """Stand in for an object that describes no tensor."""

    def __new__(cls, *_: Any, **__: Any) -> "_Other":
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


def _tensor(storage: tuple[str, str], offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    kind, key = storage
    return Tensor(kind, key, offset, tuple(size), tuple(stride))


def _parameter(tensor: Tensor, *_: Any) -> Tensor:
    return tensor
