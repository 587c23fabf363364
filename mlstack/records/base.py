"""What every file written by mlstack has in common: a kind, a version, one way in and out."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from mlstack import files
from mlstack.errors import DataError


class Record(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
):
    """A frozen, strict piece of data that crosses a room or a process."""

    # A newer version is refused wherever it lies; a record that changes declares its own.
    v: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1


class Notice(Record, frozen=True, kw_only=True):
    """Progress that whoever called must hear, e.g. an address: on stderr in every mode."""


class Result(Record, frozen=True, kw_only=True):
    """What a command was called for."""

    def headline(self) -> str:
        """Give the one value that `--quiet` prints."""
        return ""

    def exit_code(self) -> int:
        """Give the code that the command ends with; other than 0 only for alerts."""
        return 0


@contextmanager
def closed(records: Iterator[Record]) -> Iterator[None]:
    """End what gives records when they are no longer asked for, not when memory is tidied up."""
    try:
        yield
    finally:
        close = getattr(records, "close", None)
        if close is not None:
            close()


AnyRecord = TypeVar("AnyRecord", bound=Record)


def encode(record: Record) -> bytes:
    """Turn a record into readable JSON."""
    return msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"


def write(path: Path, record: Record) -> None:
    """Write a record as JSON, atomically."""
    files.write_bytes(path, encode(record))


def read(path: Path, kind: type[AnyRecord]) -> AnyRecord:
    """Read a record that mlstack wrote.

    Raises:
        DataError: the file is missing, cut off, of another kind, or of a newer version.
    """
    if path.is_fifo() or path.is_char_device():  # nothing, or no end, would come from it
        raise DataError(f"cannot read `{path}`: it is no plain file")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read `{path}`: {error.strerror}") from error
    return decode(content, kind, where=str(path))


def decode(content: bytes, kind: type[AnyRecord], *, where: str) -> AnyRecord:
    """Decode one record; `where` names its origin in the error."""
    try:
        record = msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(
            f"`{where}` is not a whole {kind.__struct_config__.tag} record: {error}",
            hint="it was cut off, changed by hand, or written by a newer mlstack",
        ) from error
    return record
