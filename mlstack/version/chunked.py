"""Large files in chunks that are named by their content: which ones a file is made of.

`NAME.chunks/` holds the chunks, `chunks/xx/yyy` under their MD5; for each file of the dataset a
list of them, `lists/PATH`; and `files.tsv`: MD5, size in bytes and path of each file. Writing the
chunks of a list one after the other (`cat`) gives the file. The format is in docs/formats.md.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mlstack import packed
from mlstack.errors import DataError

TABLE = "files.tsv"
LISTS = "lists/"
CHUNKS = "chunks/"
TOP = {"chunks", "lists", TABLE}


def is_made(folder: Path) -> bool:
    """Tell a folder of packs or chunks, whole ones, from one that somebody else has there."""
    names = {path.name for path in folder.iterdir()}
    packs = {name for name in names if packed.NAME.fullmatch(name)}
    return bool(names) and names in (packs, TOP)


@dataclass(frozen=True)
class Whole:
    """A file that is made of chunks."""

    md5: str
    size_bytes: int


@dataclass(frozen=True)
class Chunks:
    """The chunks of one version, wherever each of their files lies."""

    places: Mapping[str, Path]  # path in NAME.chunks -> file

    @cached_property
    def members(self) -> dict[str, Whole]:
        """Each file of the dataset by its path.

        Raises:
            DataError: the table is damaged.
        """
        found = {}
        try:
            content = self.places[TABLE].read_bytes().decode(errors="surrogateescape")
            for line in content.split("\n")[:-1]:
                md5, size, path = line.split("\t")
                found[packed.unescaped(path)] = Whole(md5, int(size))
        except (OSError, ValueError, KeyError) as error:
            raise self._damaged(TABLE) from error
        return found

    @property
    def entries(self) -> dict[str, str]:
        """The MD5 of each file of the dataset by its path."""
        return {path: member.md5 for path, member in self.members.items()}

    def names(self, path: str) -> list[str]:
        """List the chunks of a file, as `xx/yyy`.

        Raises:
            DataError: its list is gone.
        """
        try:
            return self.places[LISTS + path].read_text().splitlines()
        except (OSError, KeyError) as error:
            raise self._damaged(LISTS + path) from error

    def pour(self, path: str) -> Iterator[bytes]:
        """Read a file of the dataset, a chunk at a time.

        Raises:
            DataError: one of its chunks is gone.
        """
        for name in self.names(path):
            try:
                yield self.places[CHUNKS + name].read_bytes()
            except (OSError, KeyError) as error:
                raise self._damaged(CHUNKS + name) from error

    def _damaged(self, name: str) -> DataError:
        return DataError(
            f"`{self.places.get(name, name)}` is gone or damaged",
            hint="type `mlstack version pull`",
        )


def table(members: Mapping[str, Whole]) -> bytes:
    """Write the table of a dataset's files, by path."""
    lines = [
        f"{one.md5}\t{one.size_bytes}\t{packed.escaped(path)}\n"
        for path, one in sorted(members.items())
    ]
    return "".join(lines).encode(errors="surrogateescape")


def of_folder(folder: Path) -> Chunks:
    """Open the chunks that lie in a folder."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return Chunks({path.relative_to(folder).as_posix(): path for path in paths})
