"""Large lists of numbers in JSON -> arrays, without a Python object for each number.

simdjson writes them into one buffer, a third of the time of any decoder that makes lists. It
flattens what is nested, so brackets are checked here; whatever is not plainly right is left to the
decoders that make lists, which name what is wrong. So nothing is accepted here that they refuse.
"""

from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
import simdjson

from mlstack.records.package import Tensor
from mlstack.serve.worker.tensors import DTYPES, in_range

LARGE_BYTES = 2048  # below, lists are as fast
NUMBER = b"0123456789+-.eE \t\r\n"
KINDS = {"f": "d", "u": "u", "i": "i"}  # of numpy -> of simdjson
READ_AS = {"d": np.float64, "u": np.uint64, "i": np.int64}

_parser = simdjson.Parser()


def read_inputs(body: bytes, tensors: list[Tensor]) -> tuple[np.ndarray, bool] | None:
    """Read `{"inputs": [...]}` of a model with one input; and whether it is one row without a list.

    None says nothing about the body but that it must be read otherwise.
    """
    if len(body) < LARGE_BYTES or len(tensors) != 1 or -1 in tensors[0].shape[1:]:
        return None
    shape = tensors[0].shape[1:]
    array = _numbers(body, tensors[0].datatype)
    if array is None or not array.size or array.size % prod(shape):
        return None
    rows = array.size // prod(shape)
    brackets = body.translate(None, NUMBER)
    if brackets == _brackets((rows, *shape)):
        return array.reshape(rows, *shape), False
    if rows == 1 and brackets == _brackets(tuple(shape)):
        return array.reshape(1, *shape), True
    return None


def read_infer(text: bytes) -> dict[str, Any] | None:
    """Read the JSON of a V2 request whose `data` are flat lists; they come as arrays."""
    if len(text) < LARGE_BYTES:
        return None
    try:
        document = _parser.parse(text)
        if not isinstance(document, simdjson.Object):
            return None
        read = {key: _plain(value) for key, value in document.items() if key != "inputs"}
        inputs = document["inputs"]
        if not isinstance(inputs, simdjson.Array):
            return None
        read["inputs"] = [_tensor(entry) for entry in inputs]
    except (ValueError, TypeError, RuntimeError, KeyError, AttributeError):
        return None
    # a list of inputs, and of each its shape and data: no other list may be nested in data
    known = 1 + 2 * len(read["inputs"]) + ("outputs" in read)
    return read if text.count(b"[") == known else None


def _tensor(entry: Any) -> dict[str, Any]:
    read = {key: _plain(value) for key, value in entry.items() if key != "data"}
    array = _cast(entry["data"], read["datatype"])
    if array is None:
        raise TypeError("not in range")
    return {**read, "data": array}


def _plain(value: Any) -> Any:
    if isinstance(value, simdjson.Object):
        return value.as_dict()
    return value.as_list() if isinstance(value, simdjson.Array) else value


def _numbers(body: bytes, datatype: str) -> np.ndarray | None:
    try:
        document = _parser.parse(body)
        if not isinstance(document, simdjson.Object) or list(document.keys()) != ["inputs"]:
            return None
        return _cast(document["inputs"], datatype)
    except (ValueError, TypeError, RuntimeError, AttributeError):
        return None


def _cast(values: Any, datatype: str) -> np.ndarray | None:
    wanted = DTYPES[datatype] if datatype in DTYPES else DTYPES["BYTES"]
    kind = KINDS.get(wanted.kind)
    if kind is None:
        return None
    array = np.frombuffer(values.as_buffer(of_type=kind), READ_AS[kind])
    if not array.size or not in_range(array, wanted):
        return None
    return array.astype(wanted)


@lru_cache(maxsize=16)
def _brackets(shape: tuple[int, ...]) -> bytes:
    """Write what remains of `{"inputs": ...}` without its numbers."""
    inner = b""
    for size in reversed(shape):
        inner = b"[" + b",".join([inner] * size) + b"]"
    return b'{"inputs":' + inner + b"}"
