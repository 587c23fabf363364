"""Where mlstack does DVC's work itself, and the door to DVC for everything else.

Importing dvc takes longer than most of what is done here, so it waits until it is needed.
"""

from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType

from mlstack import files
from mlstack.records.dvc_config import DvcConfig, read_config
from mlstack.version.history import Dataset


def bridge() -> ModuleType:
    """Give the module that calls DVC's own code."""
    from mlstack.version import dvc_bridge  # noqa: PLC0415  0.3 s of CPU

    return dvc_bridge


def cache_folder(root: Path) -> Path:
    """Give the folder of DVC's cache whose `xx/yyy` are objects by their MD5.

    Raises:
        DataError: the project is no DVC repository yet.
    """
    config = read_config(root)
    if config is not None and config.is_plain:
        return config.cache
    folder: Path = bridge().cache_folder(root)
    return folder


def plain(data: Dataset) -> DvcConfig | None:
    """Give DVC's settings when mlstack understands all of them and the pointer; else None."""
    config = read_config(data.root)
    if config is None or not config.is_plain:
        return None
    return config if data.has_plain_pointer() else None


def hold(config: DvcConfig) -> AbstractContextManager[int]:
    """Keep DVC itself from working in the project meanwhile: this is its own lock.

    Raises:
        BusyError: a dvc is at work.
    """
    return files.lock(config.lock, "this project's data, or a dvc is")
