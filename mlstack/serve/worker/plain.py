"""Bodies of plain questions, one row each, that are read together for the fast path.

Nothing is refused here: what is not plainly right is None, and is read again by `decode`, which
names what is wrong with it. So nothing may be taken here that is refused there.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import numpy as np

from mlstack.errors import DataError
from mlstack.inputs import tables
from mlstack.inputs.images import ImageSpec
from mlstack.inputs.preprocess import RowSpec
from mlstack.inputs.tables import Row, TableSpec
from mlstack.records.server import LogSpec
from mlstack.serve.worker.arrow_stream import Raw
from mlstack.serve.worker.model import Model
from mlstack.serve.worker.tensors import DIGITS


@dataclass(slots=True)
class Rows:
    """Rows as a graph takes them, and as the request log does."""

    inputs: np.ndarray  # (rows, ...)
    contents: list[Raw] | None  # of each row; None where they must not be kept
    columns: dict[str, np.ndarray] | None = None  # of a table: float32 (rows,) each


class Reader(Protocol):
    """Reads the rows of one model, in two steps: one for each body, one for all."""

    def read(self, body: bytes) -> Any:
        """Read one body; None where it is not plainly right."""

    def rows(self, read: list[Any]) -> Rows | None:
        """Make arrays of what was read; None where one is wrong."""


def reader_of(model: Model, log: LogSpec) -> Reader | None:
    """Give what reads the plain rows of a classifier; None for a model that has none.

    Args:
        model: that will be asked.
        log: what is kept of the rows.
    """
    tensors = model.signature.inputs
    is_classifier = any(output.name == "probabilities" for output in model.signature.outputs)
    if len(tensors) != 1 or not (is_classifier and model.signature.classes):
        return None
    if isinstance(model.spec, TableSpec):
        return Table(model.spec, log) if model.lookup is None else None
    shape = tensors[0].shape
    is_flat = len(shape) == 2 and shape[0] == -1 and shape[1] > 0
    if isinstance(model.spec, ImageSpec | RowSpec) or tensors[0].datatype != "FP32" or not is_flat:
        return None
    return Numbers(shape[1], log)


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    inputs: list[float]


class Numbers:
    """Reads `{"inputs": [...]}`."""

    def __init__(self, width: int, log: LogSpec) -> None:
        self._width = width
        self._is_kept = log.inputs
        self._decode = msgspec.json.Decoder(_Body).decode

    def read(self, body: bytes) -> list[float] | None:
        """Read one row of numbers."""
        try:
            row = self._decode(body).inputs
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        return row if len(row) == self._width else None

    def rows(self, read: list[list[float]]) -> Rows | None:
        """Stack them."""
        values = np.array(read)
        # below, nothing is out of range, and a whole number is the same one as a double
        if not np.abs(values).max() <= DIGITS:
            return None
        inputs = values.astype(np.float32)
        if not self._is_kept:
            return Rows(inputs, None)
        whole, size = inputs.tobytes(), inputs[0].nbytes
        pieces: list[Raw] = [whole[start : start + size] for start in range(0, len(whole), size)]
        return Rows(inputs, pieces)


class Table:
    """Reads `{"age": 31, "city": "Bern"}`."""

    def __init__(self, spec: TableSpec, log: LogSpec) -> None:
        self._spec = spec
        self._fields = spec.fields
        self._is_kept = log.inputs and set(log.redact).isdisjoint(self._fields)
        # of a body that means several rows, or an encoded one
        self._others = [{name} for name in ("rows", "inputs") if name not in self._fields]
        self._decode = msgspec.json.Decoder(dict[str, Any]).decode

    def read(self, body: bytes) -> Row | None:
        """Read one row of columns."""
        try:
            row = self._decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        return None if row.keys() in self._others else row

    def rows(self, read: list[Row]) -> Rows | None:
        """Encode them."""
        try:
            inputs, described = self._spec.read(read)
        except DataError:
            return None
        columns = dict(zip(self._spec.columns, described.T, strict=True))
        return Rows(inputs, self._contents(read) if self._is_kept else None, columns)

    def _contents(self, read: list[Row]) -> list[Raw]:
        fields = self._fields
        return [tables.encode_row({name: row[name] for name in fields}) for row in read]
