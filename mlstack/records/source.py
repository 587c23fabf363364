"""What was copied from the URL in `data.source`, so that a second copy moves nothing.

`.mlstack/source.jsonl` has a line for the source and one for each file, appended before the file
takes its name: whatever lies in the folder is noted, even after kill -9.
"""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from mlstack import files
from mlstack.errors import DataError
from mlstack.records.base import Record


class Source(Record, frozen=True, kw_only=True, tag="source.url"):
    """The source, and the folder that it is copied into."""

    url: str
    folder: str


class CopiedFile(Record, frozen=True, kw_only=True, tag="source.file"):
    """One file, as it was there and as it is here."""

    path: str
    size_bytes: int
    stamp: str  # of the source: an ETag, a hash or a time of change; empty where it gives none
    mtime_ns: int  # of the copy; with another one, the MD5 tells whether it was changed here
    md5: str


@dataclass(frozen=True)
class Notes:
    """The notes of one source."""

    path: Path

    def read(self, source: Source) -> dict[str, CopiedFile]:
        """Give what was copied into the folder of this source, by path.

        Raises:
            DataError: the notes are damaged.
        """
        lines = self.path.read_bytes().split(b"\n") if self.path.is_file() else []
        found: dict[str, CopiedFile] = {}
        try:
            records = [msgspec.json.decode(line, type=Source | CopiedFile) for line in lines[:-1]]
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DataError(
                f"`{self.path}` is damaged: {error}",
                hint="remove it; the next copy then brings every file again, with --force",
            ) from error
        for record in records:
            if isinstance(record, CopiedFile):
                found[record.path] = record
            elif record.folder != source.folder:
                return {}
        return found

    def write(self, source: Source, copied: list[CopiedFile]) -> None:
        """Write the notes anew."""
        lines = [msgspec.json.encode(record) + b"\n" for record in (source, *copied)]
        files.write_bytes(self.path, b"".join(lines))

    def add(self, copied: CopiedFile) -> None:
        """Note one file more."""
        files.append_line(self.path, msgspec.json.encode(copied))
