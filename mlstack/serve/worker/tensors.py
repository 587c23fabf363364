"""Datatypes of the Open Inference Protocol, and values -> arrays of a declared shape."""

import math
from typing import Any

import numpy as np

from mlstack.records.package import Tensor
from mlstack.serve.worker.answers import bad

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(object),
}


def from_values(values: Any, datatype: str, field: str) -> np.ndarray:
    """Turn nested lists of numbers (or strings) into an array; nothing is rounded or wrapped.

    Raises:
        Refused: ragged lists, a wrong kind of value, or one out of the datatype's range.
    """
    if datatype == "BYTES":
        return _strings(values, field)
    try:
        array = np.array(values)
    except (ValueError, OverflowError, RecursionError) as error:
        raise bad("the lists are not all equally long", field) from error
    wanted = DTYPES[datatype]
    if array.size == 0:
        return array.astype(wanted)
    fits = _fits(array, wanted)
    if fits and wanted.kind in "iu" and array.dtype.kind == "f":
        array = _exact(values, array)
    if not (fits and in_range(array, wanted)):
        raise bad(f"the values are not all {datatype}", field)
    return array.astype(wanted)


def check_shape(array: np.ndarray, tensor: Tensor, field: str) -> None:
    """Compare an array with what the model takes.

    Raises:
        Refused: another rank, another size, or no rows.
    """
    wanted, got = tensor.shape, array.shape
    if wanted[:1] == [-1] and len(got) > 1 and [*got[1:]] == wanted[1:] and array.size:
        return  # nearly always
    fits = len(wanted) == len(got) and all(w in (-1, g) for w, g in zip(wanted, got, strict=True))
    if not fits:
        raise bad(f"shape {list(got)} does not fit {wanted} of `{tensor.name}`", field)
    if 0 in got:
        raise bad(f"shape {list(got)} holds no values", field)


def _are_small(array: np.ndarray, wanted: np.dtype[Any]) -> bool:
    """Tell at the price of one product that doubles are well inside of `wanted`.

    Each is at most the root of the sum of all squares; several microseconds less than two extrema
    and `finfo`. False says nothing.
    """
    if wanted != SINGLE:
        return False
    flat = array.ravel()
    if flat.size <= FEW:  # half the time of setting numpy's mind about overflow
        return math.hypot(*flat.tolist()) < LARGEST
    with np.errstate(over="ignore"):
        return bool(np.dot(flat, flat) < LARGEST * LARGEST)


SINGLE = np.dtype(np.float32)
LARGEST = 1e38  # a single-precision number, with room
FEW = 64
DIGITS = 2**53  # above, not every whole number is a double


def _fits(array: np.ndarray, wanted: np.dtype[Any]) -> bool:
    kind = array.dtype.kind
    if wanted.kind == "b":
        return kind == "b"
    if wanted.kind == "f":
        return kind in "iuf"
    if kind == "f":  # JSON of some clients says 3.0 for 3
        return bool(np.isfinite(array).all() and (array == np.trunc(array)).all())
    return kind in "iu"


def _exact(values: Any, doubles: np.ndarray) -> np.ndarray:
    """Read whole numbers again that numpy has made doubles of: it does so beside 2**63 and 3.0."""
    if np.abs(doubles).max() < DIGITS:
        return doubles
    whole = [int(value) for value in np.array(values, dtype=object).ravel()]
    return np.array(whole, dtype=object).reshape(doubles.shape)


def in_range(array: np.ndarray, wanted: np.dtype[Any]) -> bool:
    """Tell whether every value can be had in another datatype."""
    if wanted.kind == "b" or (array.dtype == np.float64 and _are_small(array, wanted)):
        return True
    bounds = np.finfo(wanted) if wanted.kind == "f" else np.iinfo(wanted)
    return bool(array.min() >= bounds.min and array.max() <= bounds.max)


def _strings(values: Any, field: str) -> np.ndarray:
    array = np.array(values, dtype=object)
    if not all(isinstance(value, str) for value in array.ravel()):
        raise bad("the values are not all strings", field)
    return array
