"""The pointer `NAME.dvc` and its line in `.gitignore`, as `dvc add` writes them."""

from mlstack import files
from mlstack.errors import StepError
from mlstack.launch.git import git
from mlstack.records import dvc
from mlstack.records.data_folder import FolderHash
from mlstack.version.history import Dataset


def write(data: Dataset, hashed: FolderHash) -> None:
    """Write the pointer, if it says anything new, and have git ignore the files."""
    pointer = dvc.Pointer(hashed.md5, hashed.count, hashed.size_bytes)
    text = dvc.plain_pointer(data.name, pointer)
    if not data.pointer.is_file() or data.pointer.read_text() != text:
        files.write_text(data.pointer, text)
    ignore(data)


def ignore(data: Dataset) -> None:
    """Have git ignore the folder, unless it does already."""
    path = data.pointer.with_name(".gitignore")
    lines = path.read_text().splitlines() if path.is_file() else []
    entry = f"/{data.name}"
    if entry in lines or _is_ignored(data):
        return
    files.write_text(path, "".join(f"{line}\n" for line in [*lines, entry]))


def _is_ignored(data: Dataset) -> bool:
    try:
        git(data.root, "check-ignore", "--quiet", "--", str(data.folder))
    except StepError:
        return False
    return True
