"""What is known of a project's settings, so that a command need not check them all once more.

Checking the whole of mlstack.yaml loads pydantic and takes longer than many commands do. A cache:
without it the next command is slower, and any change of what is configured makes it stale.
"""

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec

from mlstack import __version__, files
from mlstack import config as settings
from mlstack.config import Project
from mlstack.errors import MachineError
from mlstack.records.base import Record, encode
from mlstack.records.layout import Layout

SECTIONS = ("project", "data", "versioning", "serve")
DERIVED = ("is_remote", "folder")  # what `data` also says
PREFIX = "MLSTACK_"


class Known(Record, frozen=True, kw_only=True, tag="config.known"):
    """Settings that were checked, and a hash of all that they come from."""

    of: str
    settings: dict[str, dict[str, Any]]  # of the sections that versions and the server need


def project(path: Path) -> Project:
    """Give a project of whose settings only `SECTIONS` are there.

    Raises:
        ConfigError: anything in the project file is wrong.
    """
    return checked(path) or keep(path, settings.load(path))


def checked(path: Path) -> Project | None:
    """Give the same where the settings have not changed since they were checked; else None."""
    known = _read(_place(path))
    if known is None or known.of != _origin(path):
        return None
    sections = {
        name: _nested(values) if name == "serve" else SimpleNamespace(**values)
        for name, values in known.settings.items()
    }
    config = cast("settings.Config", SimpleNamespace(**sections))
    return Project(path.resolve().parent, config)


def keep(path: Path, project: Project) -> Project:
    """Remember the settings that were read from `path`, overridden by nothing else."""
    known = Known(of=_origin(path), settings=_settings(project))
    if files.may_write(_place(path)):
        with suppress(MachineError):  # of a full disk
            files.write_hint(_place(path), encode(known).decode())
    return project


def _place(path: Path) -> Path:
    return Layout(path.resolve().parent).state / "known.json"


def _nested(value: Any) -> Any:
    """Give sections within a section by attribute; there are no tables of values in `serve`."""
    if not isinstance(value, dict):
        return value
    return SimpleNamespace(**{name: _nested(inner) for name, inner in value.items()})


def _read(place: Path) -> Known | None:
    try:
        return msgspec.json.decode(place.read_bytes(), type=Known)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def _settings(checked: Project) -> dict[str, dict[str, Any]]:
    found = {name: getattr(checked.config, name).model_dump(mode="json") for name in SECTIONS}
    found["data"] |= {name: getattr(checked.config.data, name) for name in DERIVED}
    return found


def _origin(path: Path) -> str:
    """Hash what the settings come from: both files, the environment, and the code that checks."""
    digest = hashlib.sha256(f"{__version__} {SECTIONS}".encode())
    with os.scandir(Path(settings.__file__).parent) as entries:
        code = sorted((e.name, e.stat()) for e in entries if e.name.endswith(".py"))
    for name, found in code:
        digest.update(f"{name} {found.st_mtime_ns} {found.st_size}\n".encode())
    for file in (path, path.with_name(f"{path.stem}.local{path.suffix}")):
        content = file.read_bytes() if file.is_file() else b""
        digest.update(b"%d " % len(content) + content)
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and "__" in name:
            digest.update(f"{name}={os.environ[name]}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()
