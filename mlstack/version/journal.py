"""The versions of the dataset, newest first, with what each one holds."""

from pathlib import Path

from mlstack.config import Project
from mlstack.errors import DataError
from mlstack.records import dvc
from mlstack.version import content, history, stock
from mlstack.version.history import dataset_of
from mlstack.version.result import Log, LogEntry


def log(project: Project, limit: int) -> Log:
    """List the versions of the dataset, newest first."""
    data = dataset_of(project)
    found = history.versions(data, limit=limit)
    cache = stock.cache_folder(data.root) if found else Path()
    current = dvc.read_pointer(data.pointer)
    return Log(
        dataset=data.name,
        current=current.md5 if current else None,
        versions=[
            LogEntry(
                revision=version.revision,
                date=version.date,
                author=version.author,
                message=version.message,
                md5=version.pointer.md5,
                files=version.pointer.files,
                size_bytes=version.pointer.size_bytes,
                classes=_classes(cache, version.pointer, data.label),
            )
            for version in found
        ],
    )


def _classes(cache: Path, version: dvc.Pointer, label: str | None) -> dict[str, int] | None:
    try:
        return content.of_version(cache, version, "", label).classes()
    except DataError:
        return None
