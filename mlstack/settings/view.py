"""Settings for people: lines as in the file, dotted, so that they can be searched."""

import json
from typing import Any

from mlstack.records.base import Record
from mlstack.settings.api import Defined, Migrated, Schema, Setting, Shown


def draw(record: Record) -> str | None:
    """Draw what `config` shows."""
    match record:
        case Shown():
            return _shown(record)
        case Schema(written=path) if path:
            return f"Wrote {path}"
        case Schema(schema=schema):
            return json.dumps(schema, indent=2)
        case Defined(written=path) if path:
            return f"Wrote {path}/feature_store.yaml and definitions.py; type `feast apply` there"
        case Defined(store=store, definitions=definitions):
            return f"# feature_store.yaml\n{store}\n# definitions.py\n{definitions}"
        case Migrated(diff="", file=file, version=version):
            return f"{file} is version {version}, the newest; nothing to do"
        case Migrated(diff=diff, written=written):
            return diff if written else f"{diff}\nNothing was written; add --write to do it"
    return None


def _shown(shown: Shown) -> str:
    lines = [f"{setting.key}: {_value(setting.value)}" for setting in shown.settings]
    if shown.with_origin:
        width = min(max(map(len, lines), default=0), 56)
        lines = [
            f"{line:<{width}}  # {setting.origin}"
            for line, setting in zip(lines, shown.settings, strict=True)
        ]
    return "\n".join([*lines, "", _summary(shown.settings, shown)])


def _summary(settings: list[Setting], shown: Shown) -> str:
    own = sum(setting.origin != "default" for setting in settings)
    more = "" if own < len(settings) else " (--all shows them)"
    return f"{shown.file} ok: {own} settings, {shown.defaults} defaults{more}"


def _value(value: Any) -> str:
    if isinstance(value, str) and value and value[0].isalpha() and ": " not in value:
        return value
    return json.dumps(value)
