"""Show the settings in force, the schema, and what a newer version would change."""

import difflib
import json
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec
from pydantic import BaseModel

from mlstack import files
from mlstack.config import load
from mlstack.config.dotted import flatten
from mlstack.config.migrate import rewrite
from mlstack.config.schema import json_schema
from mlstack.records.base import Result
from mlstack.records.layout import Layout

DEFAULT = "default"


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One setting in force."""

    key: str
    value: Any
    origin: str


class Shown(Result, frozen=True, kw_only=True, tag="settings.shown"):
    """The settings that were asked for."""

    file: str
    settings: list[Setting]
    defaults: int  # how many settings nobody set
    with_origin: bool


class Schema(Result, frozen=True, kw_only=True, tag="settings.schema"):
    """The JSON Schema of the project file, and where it was written, if so."""

    schema: dict[str, Any]
    written: str = ""

    def headline(self) -> str:
        """Give the path of the schema."""
        return self.written


class Migrated(Result, frozen=True, kw_only=True, tag="settings.migrated"):
    """What changes, or has changed, in the project file."""

    file: str
    version: int
    diff: str
    written: bool


class Defined(Result, frozen=True, kw_only=True, tag="settings.feast"):
    """A feature repository for Feast, and where it was written, if so."""

    store: str  # feature_store.yaml
    definitions: str  # definitions.py
    written: str = ""

    def headline(self) -> str:
        """Give the folder."""
        return self.written


def show(path: Path, sets: tuple[str, ...], *, everything: bool, origin: bool) -> Shown:
    """List what is in force: what somebody set, or everything."""
    project = load(path, sets=sets)
    settings = [
        Setting(key=key, value=_plain(value), origin=project.origins[key])
        for key, value in ((".".join(parts), value) for parts, value in flatten(project.config))
    ]
    chosen = [setting for setting in settings if everything or setting.origin != DEFAULT]
    return Shown(
        file=str(path),
        settings=chosen,
        defaults=sum(setting.origin == DEFAULT for setting in settings),
        with_origin=origin,
    )


def schema(path: Path, *, write: bool) -> Schema:
    """Give the JSON Schema of the project file; `write` puts it where editors look."""
    content = json_schema()
    target = Layout(path.parent).state / "schema.json"
    if write:
        files.write_bytes(target, content)
    return Schema(schema=json.loads(content), written=str(target) if write else "")


def migrate(path: Path, *, write: bool) -> Migrated:
    """Bring the project file to the newest version, or show what would change.

    Raises:
        ConfigError: the file has mistakes.
    """
    project = load(path)
    before = path.read_text("utf-8-sig")
    after = rewrite(before)
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), f"{path}", f"{path} (new)", lineterm=""
    )
    if write and after != before:
        files.write_text(path, after)
    return Migrated(
        file=str(path),
        version=project.config.version,
        diff="\n".join(lines),
        written=write and after != before,
    )


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, date):
        return value.isoformat()
    return value.value if isinstance(value, Enum) else value
