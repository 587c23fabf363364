"""The pointer `NAME.dvc` and its line in `.gitignore`, as `dvc add` writes them."""

import shutil
from dataclasses import replace
from pathlib import Path

from mlstack import files
from mlstack.errors import StepError
from mlstack.launch.git import git
from mlstack.records import dvc
from mlstack.records.data_folder import FolderHash
from mlstack.version import chunked
from mlstack.version.history import Dataset


def path_of(kept: Dataset) -> Path:
    """Give the `.dvc` file of just this folder."""
    return kept.folder.with_name(f"{kept.name}.dvc")


def write(data: Dataset, hashed: FolderHash, stored: FolderHash | None = None) -> None:
    """Write the pointer, if it says anything new, and have git ignore the files.

    Args:
        data: the dataset.
        hashed: its files.
        stored: what DVC keeps instead of them.
    """
    said = dvc.Pointer(hashed.md5, hashed.count, hashed.size_bytes)
    if stored:
        said = replace(said, stored=dvc.Pointer(stored.md5, stored.count, stored.size_bytes))
    text = dvc.plain_pointer(data.kept.name, said)
    path = path_of(data.kept)
    if not path.is_file() or path.read_text() != text:
        files.write_text(path, text)
    drop_others(data, path)
    ignore(data, data.kept)


def drop_others(data: Dataset, valid: Path) -> None:
    """Remove the pointers of other layouts, and what was made for them; the cache has it all.

    What was made lies there alone after `git checkout` has taken its pointer away.
    """
    for path in data.pointers():
        made = path.with_suffix("")
        if path == valid:
            continue
        if made != data.folder and made.is_dir() and (path.is_file() or chunked.is_made(made)):
            shutil.rmtree(made)
        path.unlink(missing_ok=True)


def ignore(data: Dataset, kept: Dataset) -> None:
    """Have git ignore the folder and what is made of it, unless it does already."""
    for name in dict.fromkeys([data.name, kept.name]):
        _ignore(data.folder.with_name(name), data.root)


def _ignore(folder: Path, root: Path) -> None:
    path = folder.with_name(".gitignore")
    lines = path.read_text().splitlines() if path.is_file() else []
    entry = f"/{folder.name}"
    if entry in lines or _is_ignored(folder, root):
        return
    files.write_text(path, "".join(f"{line}\n" for line in [*lines, entry]))


def _is_ignored(folder: Path, root: Path) -> bool:
    try:
        git(root, "check-ignore", "--quiet", "--", str(folder))
    except StepError:
        return False
    return True
