"""Packs or chunks of two versions -> those of the merged one: all of both, and what lacks."""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mlstack import files, packed
from mlstack.packed import Packs
from mlstack.records import data_folder, dvc
from mlstack.version import chunked, listing, packs
from mlstack.version.chunked import Chunks
from mlstack.version.objects import MODE


@dataclass(frozen=True)
class Held:
    """What packed or chunked versions hold, by the MD5 of each file."""

    cache: Path
    sides: tuple[dvc.Pointer, ...]

    @cached_property
    def holders(self) -> dict[str, tuple[Packs | Chunks, str]]:
        """The packs or chunks that hold a file, and its path there."""
        found: dict[str, tuple[Packs | Chunks, str]] = {}
        for side in self.sides:
            if side.stored:
                made = listing.made_of(self.cache, side.stored.md5)
                found |= {member.md5: (made, path) for path, member in made.members.items()}
        return found

    def pour(self, md5: str) -> Iterator[bytes]:
        """Read a file of one of the sides, or an object."""
        if md5 not in self.holders:
            yield listing.object_path(self.cache, md5).read_bytes()
            return
        made, path = self.holders[md5]
        yield from made.pour(path)

    def size(self, md5: str) -> int:
        """Give the size of such a file in bytes."""
        if md5 not in self.holders:
            return listing.object_path(self.cache, md5).stat().st_size
        made, path = self.holders[md5]
        return made.members[path].size_bytes

    def unpack(self, md5s: list[str | None]) -> None:
        """Put some of the files into the cache as objects."""
        for md5 in md5s:
            if md5 in self.holders:
                _store(self.cache, str(md5), self.pour(str(md5)))

    def merge(self, wanted: dict[str, str]) -> dvc.Pointer:
        """Put what gives the wanted files into the cache; say what DVC keeps then.

        Args:
            wanted: MD5 of each file by its path.
        """
        of_both: dict[str, str] = {}
        for side in self.sides:
            if side.stored:
                of_both |= listing.read(self.cache, side.stored.md5)
        with tempfile.TemporaryDirectory(dir=self.cache.parent) as place:
            folder = Path(place)
            if chunked.TABLE in of_both:
                entries = self._settle_chunks(folder, of_both, wanted)
            else:
                entries = self._settle_packs(folder, of_both, wanted)
            size = sum((folder / name).stat().st_size for name in entries)
            for name, md5 in entries.items():
                _store(self.cache, md5, _chunks_of(folder / name))
        listed = data_folder.listing_bytes(entries.items())
        md5 = data_folder.md5_of(listed)
        _store(self.cache, md5, [listed])
        return dvc.Pointer(md5, len(entries), size)

    def _settle_packs(
        self, folder: Path, of_both: dict[str, str], wanted: dict[str, str]
    ) -> dict[str, str]:
        known = {name: md5 for name, md5 in of_both.items() if name != packed.REMOVED}
        self._lay(folder, known)
        packs.settle(folder, wanted, lambda md5: b"".join(self.pour(md5)))
        return {one.name: known.get(one.name) or files.md5(one) for one in folder.iterdir()}

    def _settle_chunks(
        self, folder: Path, of_both: dict[str, str], wanted: dict[str, str]
    ) -> dict[str, str]:
        from mlstack.version import chunks  # noqa: PLC0415  20 ms of CPU for who has none

        known = {name: md5 for name, md5 in of_both.items() if name.startswith(chunked.CHUNKS)}
        self._lay(folder, known)
        chunks.settle(folder, wanted, self.pour)
        paths = [path for path in folder.rglob("*") if path.is_file()]
        made = {path.relative_to(folder).as_posix(): path for path in paths}
        return {name: known.get(name) or files.md5(path) for name, path in made.items()}

    def _lay(self, folder: Path, known: dict[str, str]) -> None:
        for name, md5 in known.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to(listing.object_path(self.cache, md5))


def _chunks_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while content := stream.read(files.CHUNK_BYTES):
            yield content


def _store(cache: Path, md5: str, content: Iterable[bytes]) -> None:
    place = listing.object_path(cache, md5)
    if not place.is_file():
        files.write_chunks(place, content, mode=MODE)
