"""The layers of settings: mlstack.yaml, mlstack.local.yaml, the environment, `--set`."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlstack.config.document import Entry, Found, Place, Source, parse
from mlstack.config.train_sections import DIMENSIONS
from mlstack.errors import ConfigError, Mistake

PREFIX = "MLSTACK_"
SPACE = ("tune", "space")


def read_file(path: Path, layer: int, found: list[Found]) -> Entry | None:
    """Read a file of settings; None when it cannot be read as such."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read `{path}`: {error.strerror}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n")
        problem = f"byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8"
        found.append(Found((layer, line, 0), Mistake(problem, where=f"{path}:{line + 1}")))
        return None
    entry = parse(Source(str(path), text, layer, path.name), found)
    if entry is None or isinstance(entry.value, dict):
        return entry
    if entry.value is None:
        return Entry({}, entry.at, entry.key_at)
    problem = "this is not a group of settings; lines look like `version: 1`"
    found.append(Found(entry.at.order, _mistake(problem, entry.at)))
    return None


def read_environment(
    environment: Mapping[str, str], layer: int, found: list[Found]
) -> list[tuple[tuple[str, ...], Entry]]:
    """Read `MLSTACK_TRAIN__EPOCHS=3`; a name without a double underscore is not a setting."""
    settings = []
    for number, name in enumerate(sorted(environment)):
        if not name.startswith(PREFIX) or "__" not in name:
            continue
        path = split_name(name.removeprefix(PREFIX).lower().replace("__", "."))
        place = Place(name, (layer, number, 0), "", name)
        settings += _one(path, environment[name], place, found)
    return settings


def read_sets(
    sets: tuple[str, ...], layer: int, found: list[Found]
) -> list[tuple[tuple[str, ...], Entry]]:
    """Read `a.b=value`, the value being YAML."""
    settings = []
    for number, item in enumerate(sets):
        place = Place(f"--set {item}", (layer, number, 0), "", "--set")
        name, equals, text = item.partition("=")
        path = split_name(name.strip())
        if not equals or not all(path):
            problem = f'"{item}" is not a setting with a value; write --set train.epochs=3'
            found.append(Found(place.order, _mistake(problem, place)))
            continue
        settings += _one(path, text, place, found)
    return settings


def split_name(name: str) -> tuple[str, ...]:
    """Split a dotted name; names below `tune.space` have dots of their own."""
    parts = tuple(name.split("."))
    if parts[:2] != SPACE or len(parts) < 4:
        return parts
    if parts[-1] in DIMENSIONS:
        return (*SPACE, ".".join(parts[2:-1]), parts[-1])
    return (*SPACE, ".".join(parts[2:]))


def overlay(base: Entry, over: Entry, path: tuple[str, ...] = ()) -> Entry:
    """Lay one layer over another: groups are joined, everything else is replaced."""
    if not isinstance(base.value, dict):
        return over
    if over.value is None and len(path) == 1:
        return base  # `train:` with nothing under it says nothing
    if not isinstance(over.value, dict) or (path[:2] == SPACE and len(path) == 3):
        return over
    joined = dict(base.value)
    for name, entry in over.value.items():
        below = (*path, name)
        joined[name] = overlay(joined[name], entry, below) if name in joined else entry
    return replace(base, value=joined)


def put(base: Entry, path: tuple[str, ...], entry: Entry) -> Entry:
    """Lay one setting over the others; a mapping replaces the one that was there."""
    if isinstance(entry.value, dict):
        base = _without(base, path)
    for name in reversed(path):
        entry = Entry({name: entry}, entry.at, entry.key_at)
    return overlay(base, entry)


def _without(entry: Entry, path: tuple[str, ...]) -> Entry:
    if not path or not isinstance(entry.value, dict) or path[0] not in entry.value:
        return entry
    name, rest = path[0], path[1:]
    kept = {other: inner for other, inner in entry.value.items() if other != name or rest}
    if rest:
        kept[name] = _without(kept[name], rest)
    return replace(entry, value=kept)


def plain(entry: Entry) -> Any:
    """Take the places away."""
    if isinstance(entry.value, dict):
        return {name: plain(inner) for name, inner in entry.value.items()}
    if isinstance(entry.value, list):
        return [plain(inner) for inner in entry.value]
    return entry.value


def _one(
    path: tuple[str, ...], text: str, place: Place, found: list[Found]
) -> list[tuple[tuple[str, ...], Entry]]:
    source = Source(place.where, text, place.order[0], place.origin, fixed=place)
    entry = parse(source, found)
    return [] if entry is None else [(path, replace(entry, key_at=place))]


def _mistake(problem: str, place: Place, key: str = "") -> Mistake:
    return Mistake(problem, where=place.where, excerpt=place.excerpt, key=key)
