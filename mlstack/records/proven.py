"""`.mlstack/proven/`: which packages were opened here, in a process that could die of them.

A graph that passes every reader can still crash or stop ONNX Runtime. So whoever opens one for the
first time does so in a process of its own with limits, replays its golden examples, and keeps a
small file that says so; a server that finds the file need not do it again. The file's name holds
the SHA-256 of the package's manifest, which covers all its files, the version of ONNX Runtime and
the processor: what has changed has no such file.
"""

import contextlib
import datetime
import importlib
import os
import sys
from pathlib import Path

from mlstack import files
from mlstack.errors import DataError, MachineError
from mlstack.records.base import Record, encode, read
from mlstack.records.package import MANIFEST, SIDE

DISTRIBUTIONS = ("onnxruntime-gpu", "onnxruntime")


class Proven(Record, frozen=True, kw_only=True, tag="package.proven"):
    """A package was opened in a process of its own, and answered its golden examples."""

    package: str  # its folder, or an .onnx file; below the project where it lies there
    runtime: str  # version of ONNX Runtime
    processor: str
    at: str  # UTC, ISO 8601


def is_proven(folder: Path, package: Path) -> bool:
    """Tell whether a package, or a single .onnx file, was opened here as it is now.

    Args:
        folder: `.mlstack/proven` of the project.
        package: the package.
    """
    return _covers(package).is_file() and _place(folder, package).is_file()


def keep(folder: Path, package: Path) -> None:
    """Remember that a package was opened well; forget those that are gone.

    Where nothing can be written nothing is: then it is opened once more.
    """
    place = _place(folder, package)
    if not files.may_write(place):
        return
    root = folder.absolute().parents[1].resolve()
    here = package.resolve()
    record = Proven(
        package=(here.relative_to(root) if here.is_relative_to(root) else here).as_posix(),
        runtime=_runtime(),
        processor=os.uname().machine,
        at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    with contextlib.suppress(MachineError):
        files.write_hint(place, encode(record).decode())
        _forget_gone(folder, root)


def _place(folder: Path, package: Path) -> Path:
    digest = files.sha256(_covers(package))
    return folder / f"{digest}-{_runtime()}-{os.uname().machine}.json"


def _covers(package: Path) -> Path:
    """Give the file whose hash changes with any file of the package."""
    return package / SIDE / MANIFEST if package.is_dir() else package


def _runtime() -> str:
    """Give the version of ONNX Runtime; loading it, or what tells of packages, would take time."""
    loaded = sys.modules.get("onnxruntime")
    if loaded is not None:
        return str(loaded.__version__)
    metadata = importlib.import_module("importlib.metadata")
    for name in DISTRIBUTIONS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            return str(metadata.version(name))
    return "unknown"


def _forget_gone(folder: Path, root: Path) -> None:
    for place in folder.glob("*.json"):
        try:
            is_there = (root / read(place, Proven).package).exists()
        except DataError:
            is_there = False
        if not is_there:
            place.unlink(missing_ok=True)
