"""Arrays in plain files: written row by row, read without loading them."""

from pathlib import Path
from types import TracebackType

import numpy as np

from mlstack.errors import ConfigError
from mlstack.export.handover import Stored


class ArrayFile:
    """Append batches to a file; memory stays that of one batch."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream = path.open("wb")
        self._dtype: np.dtype | None = None
        self._row: tuple[int, ...] = ()
        self.rows = 0

    def __enter__(self) -> "ArrayFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._stream.close()

    def append(self, batch: np.ndarray) -> None:
        """Add rows.

        Raises:
            ConfigError: they are of another shape or type than those before.
        """
        if self._dtype is None:
            self._dtype, self._row = batch.dtype, batch.shape[1:]
        if batch.dtype != self._dtype or batch.shape[1:] != self._row:
            raise ConfigError(
                f"data.module: one batch has rows {self._dtype} {self._row}, another "
                f"{batch.dtype} {batch.shape[1:]}",
                hint="a package takes inputs of one shape; resize them in the data module",
            )
        self._stream.write(np.ascontiguousarray(batch).tobytes())
        self.rows += len(batch)

    def stored(self) -> Stored:
        """Describe the file."""
        self._stream.flush()
        name = np.dtype(self._dtype or np.float32).str
        return Stored(file=str(self._path), dtype=name, shape=[self.rows, *self._row])


def opened(stored: Stored) -> np.ndarray:
    """Map a stored array; nothing is read before it is used."""
    shape = tuple(stored.shape)
    if 0 in shape:
        return np.empty(shape, dtype=stored.dtype)
    return np.memmap(stored.file, dtype=stored.dtype, mode="r", shape=shape)
