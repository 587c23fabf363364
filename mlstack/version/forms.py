"""What DVC keeps of a dataset: its own files, or the packs or chunks that are made of them."""

from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from shutil import rmtree

from mlstack import packed
from mlstack.errors import ConfigError, DataError
from mlstack.packed import SUFFIX
from mlstack.records import data_folder, dvc
from mlstack.records.base import Record
from mlstack.records.data_folder import FolderHash, Look
from mlstack.records.dvc_config import DvcConfig
from mlstack.records.file_hash import size_of
from mlstack.version import chunked, guard, intake, links, listing, packs, placement, pointer, stock
from mlstack.version.history import Dataset
from mlstack.version.objects import Objects

# Nobody edits a pack, so it may share its bytes with the cache whatever `cache.type` says.
MANY = 20_000  # files from which packs pay, when a file is smaller than this in the mean
SMALL_BYTES = 64 << 10
LARGE_BYTES = 64 << 20  # files from this size on pay in chunks, once one has changed
LINKS = (links.REFLINK, links.HARDLINK, links.COPY)


def keep(data: Dataset, seen: Look) -> Generator[Record, None, FolderHash]:
    """Make the folder that DVC keeps of a dataset, and put it into the cache with its pointer.

    Raises:
        ConfigError: DVC's settings or links among the files ask for DVC itself.
        DataError: a file is being written meanwhile.
        MachineError: the disk is full.
    """
    config = stock.plain(data)
    if config is None or seen.linked:
        raise _foreign("links among the files" if config else "these settings of DVC")
    kept = data.kept
    with stock.hold(config):
        yield from _lay_before(data, kept, config)
        kept.folder.mkdir(exist_ok=True)
        yield from _maker(data.layout)(seen, kept.folder)
        hashed = seen.hashed()
        made = guard.look(kept)
        stored = yield from intake.keep(made, replace(config, links=LINKS), kept.noted)
    data_folder.remember(kept.index, made, stored)
    data_folder.remember(data.index, seen, hashed)
    pointer.write(data, hashed, stored)
    return hashed


def better(data: Dataset, seen: Look, after: FolderHash) -> str | None:
    """Name a layout that would make versions of this data smaller or faster to move; else None."""
    if data.layout != "files":
        return None
    if after.count >= MANY and after.size_bytes < SMALL_BYTES * after.count:
        return "packs"
    top = len(str(data.folder)) + 1
    for (path, stamp), former in zip(seen.found(), seen.former(), strict=True):
        if size_of(stamp) >= LARGE_BYTES and former not in ("", after.entries[path[top:]]):
            return "chunks"
    return None


def lay(kept: Dataset, config: DvcConfig, md5: str) -> Generator[Record, None, None]:
    """Put the folder that DVC keeps as a version has it; its objects are in the cache."""
    now = data_folder.hash_folder(kept.folder, kept.index) if kept.folder.is_dir() else None
    if now is None or now.md5 != md5:
        order = placement.Order(md5, listing.read(config.cache, md5))
        yield from placement.place(kept, replace(config, links=LINKS), order, now=now)


def lay_out(
    data: Dataset, version: dvc.Pointer, config: DvcConfig
) -> Generator[Record, None, placement.Order]:
    """Lay what DVC keeps of a version; say what the dataset's own folder shall hold then."""
    if version.stored is None:
        return placement.Order(version.md5, listing.read(config.cache, version.md5))
    kept = data.kept_of(version)
    yield from lay(kept, config, version.stored.md5)
    is_packed = kept.name.endswith(packed.SUFFIX)
    made = packed.of_folder(kept.folder) if is_packed else chunked.of_folder(kept.folder)
    return placement.Order(version.md5, made.entries, made.pour)


def refuse_foreign(version: dvc.Pointer) -> None:
    """Refuse what only DVC could check out, and could not unpack.

    Raises:
        ConfigError: the version is packed.
    """
    if version.stored:
        raise _foreign("these settings of DVC, or links among the files")


def refuse_unpacked(version: dvc.Pointer, *, packed: bool) -> None:
    """Refuse to leave files in packs that there are not.

    Raises:
        ConfigError: the version is not packed.
    """
    if packed and not (version.stored and version.stored.name.endswith(SUFFIX)):
        raise ConfigError(
            "this version has no packs that its files could stay in",
            hint="set versioning.layout to `packs`, then type `mlstack version snapshot`",
        )


def put_away(data: Dataset) -> None:
    """Take a dataset's own folder away; its files are in the packs."""
    if data.folder.is_dir():
        rmtree(data.folder)
    data.index.unlink(missing_ok=True)


def _foreign(what: str) -> ConfigError:
    return ConfigError(
        f"versioning.layout: packs and chunks do not work with {what}",
        hint="set versioning.layout to `files`",
    )


def _lay_before(data: Dataset, kept: Dataset, config: DvcConfig) -> Generator[Record, None, None]:
    """Begin with the packs of the version before; without them, with none.

    Raises:
        DataError: the user has another folder in that place.
    """
    before = dvc.read_pointer(data.pointer)
    if before and before.stored and data.kept_of(before) == kept and _is_here(config, before):
        yield from lay(kept, config, before.stored.md5)
        return
    if kept.folder.is_dir():
        if not all(_is_ours(path.name) for path in kept.folder.iterdir()):
            raise DataError(
                f"`{kept.source}` is in the way: `{data.source}` is kept there",
                hint="move it elsewhere",
            )
        rmtree(kept.folder)
        kept.index.unlink(missing_ok=True)


def _maker(layout: str) -> Callable[[Look, Path], Generator[Record, None, None]]:
    if layout == "packs":
        return packs.pack
    from mlstack.version import chunks  # noqa: PLC0415  20 ms of CPU for who cuts no files

    return chunks.chunk


def _is_ours(name: str) -> bool:
    return name in chunked.TOP or bool(packed.NAME.fullmatch(name))


def _is_here(config: DvcConfig, version: dvc.Pointer) -> bool:
    lacks_list = Objects(config.cache).missing([version.kept.md5])
    return not lacks_list and not listing.missing(config.cache, version)
