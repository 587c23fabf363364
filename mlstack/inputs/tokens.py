"""Tokenised texts, kept: each set of texts is tokenised once for a tokenizer, then mapped.

`.mlstack/tokens/KEY.npy` is int32 (texts, length); KEY names tokenizer and texts by their MD5. A
cache; delete it and it comes back. The newest `KEPT` stay.
"""

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from mlstack import files
from mlstack.errors import DataError
from mlstack.inputs.kept import state_of
from mlstack.inputs.texts import TextSpec

AT_ONCE = 4096  # texts that are tokenised before they are written
KEPT = 24


def encoded(examples: str | Path, spec: TextSpec, table: pa.Table) -> np.ndarray:
    """Map the encoded texts of a table, tokenising those that are not known yet.

    Args:
        examples: file of the examples, which says whose texts they are.
        spec: how texts become numbers.
        table: rows with the column of `spec`.

    Returns:
        int32 (rows, length); changes stay in memory.

    Raises:
        DataError: the column is missing or holds something else than text.
        MachineError: the disk is full or the folder cannot be written.
    """
    if not table.num_rows:  # a part of no share; there is no file to say which columns it has
        return np.zeros((0, spec.length), np.int32)
    texts = texts_of(table, spec.column)
    folder = state_of(Path(examples)) / "tokens"
    place = folder / f"{_key(spec, texts)}.npy"
    if not place.is_file():
        # Other ranks and trials want the same texts: the first reads them, the others wait.
        with files.lock(folder / "lock", "tokenising texts", wait=True):
            if not place.is_file():
                _write(place, spec, texts)
                _forget(folder)
    found: np.ndarray = np.load(place, mmap_mode="c")
    return found


def texts_of(table: pa.Table, column: str) -> list[str]:
    """Give the texts of a table; a missing one is empty.

    Raises:
        DataError: the column is missing or holds something else than text.
    """
    if column not in table.column_names:
        raise DataError(
            f"the table has no column `{column}`",
            hint=f"it has {', '.join(table.column_names[:12])}; write `data.args: {{text: NAME}}`",
        )
    kind = table[column].type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        raise DataError(f"column `{column}` holds {kind}, not text")
    return [text or "" for text in table[column].to_pylist()]


def _key(spec: TextSpec, texts: list[str]) -> str:
    named = hashlib.md5(msgspec.json.encode(spec.to_json()), usedforsecurity=False)
    for text in texts:
        content = text.encode("utf-8", "replace")
        named.update(b"%d:" % len(content) + content)
    return named.hexdigest()


def _write(place: Path, spec: TextSpec, texts: list[str]) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = place.with_name(f".{place.name}.tmp")
    shape = (len(texts), spec.length)
    try:
        array = np.lib.format.open_memmap(beside, "w+", dtype=np.int32, shape=shape)
        for start in range(0, len(texts), AT_ONCE):
            array[start : start + AT_ONCE] = spec.encode_texts(texts[start : start + AT_ONCE])
        array.flush()
    except OSError as error:
        raise files.cannot_write(place, error) from error
    files.sync_file(beside)
    files.move(beside, place)


def _forget(folder: Path) -> None:
    """Drop what was written longest ago; whoever has it mapped keeps it."""
    known = sorted(folder.glob("*.npy"), key=lambda path: path.stat().st_mtime_ns)
    for path in known[: max(0, len(known) - KEPT)]:
        path.unlink(missing_ok=True)
