"""The content of a project's dataset, whether its files are laid out or lie in packs."""

from collections import defaultdict
from pathlib import Path

from mlstack import packed
from mlstack.errors import DataError
from mlstack.packed import Packs
from mlstack.records import dvc
from mlstack.records.data_folder import FolderHash, hash_folder, listing_bytes, md5_of
from mlstack.records.file_hash import STAMP
from mlstack.records.folder_index import FolderIndex, Listed
from mlstack.records.layout import Layout


def hash_dataset(root: Path, source: str) -> FolderHash:
    """Hash a project's data as DVC does; of packs only what has changed is read.

    Args:
        root: the project.
        source: the dataset folder, relative to the project.

    Raises:
        DataError: there is no data, the packs are not those of the pointer, or a file is being
            written meanwhile.
    """
    if is_packed(root / source):
        return _of_packs(root, source)
    return hash_folder(root / source, Layout(root).index(source))


def is_packed(folder: Path) -> bool:
    """Tell whether a dataset folder is not laid out, and its packs are here."""
    return not folder.exists() and packed.folder_of(folder).is_dir()


def _of_packs(root: Path, source: str) -> FolderHash:
    folder = packed.folder_of(root / source)
    made = f"{source}{packed.SUFFIX}"
    version = dvc.read_pointer(dvc.pointer_path(root / source))
    found = hash_folder(folder, Layout(root).index(made)).md5
    if version is None or version.stored is None or version.stored.md5 != found:
        raise DataError(
            f"`{made}` is not as `{made}.dvc` says", hint="type `mlstack version checkout HEAD`"
        )
    return _hash_of(packed.of_folder(folder))


def _hash_of(packs: Packs) -> FolderHash:
    by_folder: dict[str, list[str]] = defaultdict(list)
    for path in sorted(packs.members):
        by_folder[path.rpartition("/")[0]].append(path)
    folders = {
        at: Listed(
            [path.rpartition("/")[2] for path in paths],
            b"".join(STAMP.pack(0, 0, packs.members[path].size_bytes, 0) for path in paths),
            bytes.fromhex("".join(packs.members[path].md5 for path in paths)),
        )
        for at, paths in by_folder.items()
    }
    size = sum(member.size_bytes for member in packs.members.values())
    md5 = md5_of(listing_bytes(packs.entries.items()))
    index = FolderIndex(md5=md5, size_bytes=size, folders=folders)
    return FolderHash(md5, size, len(packs.members), index, linked=False)
