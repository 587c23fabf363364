"""Packs of two versions -> those of the merged one: all of both, and one more for the rest."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from mlstack import files, packed
from mlstack.packed import Packs
from mlstack.records import data_folder, dvc
from mlstack.version import listing, packs
from mlstack.version.objects import MODE


@dataclass(frozen=True)
class Packed:
    """What packed versions hold, by the MD5 of each file."""

    cache: Path
    sides: tuple[dvc.Pointer, ...]

    @cached_property
    def holders(self) -> dict[str, tuple[Packs, str]]:
        """The packs that hold a file, and its path there."""
        found: dict[str, tuple[Packs, str]] = {}
        for side in self.sides:
            if side.stored:
                made = listing.packs_of(self.cache, side.stored.md5)
                found |= {member.md5: (made, path) for path, member in made.members.items()}
        return found

    def read(self, md5: str) -> bytes:
        """Read a file of one of the sides, or an object."""
        if md5 not in self.holders:
            return listing.object_path(self.cache, md5).read_bytes()
        made, path = self.holders[md5]
        return made.read(path)

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
                _store(self.cache, str(md5), partial(self.read, md5))

    def merge(self, wanted: dict[str, str]) -> dvc.Pointer:
        """Put packs that give the wanted files into the cache; say what DVC keeps then.

        Args:
            wanted: MD5 of each file by its path.
        """
        of_both: dict[str, str] = {}
        for side in self.sides:
            if side.stored:
                of_both |= listing.read(self.cache, side.stored.md5)
        of_both.pop(packed.REMOVED, None)
        with tempfile.TemporaryDirectory(dir=self.cache.parent) as place:
            folder = Path(place)
            for name, md5 in of_both.items():
                (folder / name).symlink_to(listing.object_path(self.cache, md5))
            packs.settle(folder, wanted, self.read)
            made = {path.name: path for path in folder.iterdir()}
            entries = {name: of_both.get(name) or files.md5(path) for name, path in made.items()}
            size = sum(path.stat().st_size for path in made.values())
            for name, md5 in entries.items():
                _store(self.cache, md5, made[name].read_bytes)
        listed = data_folder.listing_bytes(entries.items())
        md5 = data_folder.md5_of(listed)
        _store(self.cache, md5, lambda: listed)
        return dvc.Pointer(md5, len(entries), size)


def _store(cache: Path, md5: str, content: Callable[[], bytes]) -> None:
    place = listing.object_path(cache, md5)
    if not place.is_file():
        files.write_chunks(place, [content()], mode=MODE)
