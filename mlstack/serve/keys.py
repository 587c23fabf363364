"""Give out API keys, list them, and take them back."""

import datetime
import secrets
from pathlib import Path

import msgspec

from mlstack import config as settings
from mlstack import files
from mlstack.config import Project
from mlstack.errors import ConfigError
from mlstack.records import keys as record
from mlstack.records import server as server_record
from mlstack.records.base import encode
from mlstack.records.keys import Key, Keys
from mlstack.records.layout import Layout
from mlstack.serve.results import KeyAdded, KeyLine, KeyRevoked, KeysListed

PREFIX = "mls_"
ID_LENGTH = len(PREFIX) + 8


def path_of(project: Project) -> Path:
    """Give the file of this project's keys."""
    configured = project.config.serve.keys_file
    return project.root / configured if configured else Layout(project.root).state / record.FILE


def add(path: Path, *, sets: tuple[str, ...], name: str) -> KeyAdded:
    """Make a key; it is shown once, and only its hash is kept.

    Raises:
        ConfigError: a good key has this name already.
    """
    project = settings.load(path, sets=sets)
    place = path_of(project)
    with files.lock(place.with_name(f".{place.name}.lock"), f"`{place}`", wait=True):
        keys = record.read_keys(place)
        if any(key.name == name for key in keys.active()):
            raise ConfigError(
                f"`{name}` has a key already",
                hint=f"choose another name, or type `mlstack serve keys revoke {name}` first",
            )
        text = PREFIX + secrets.token_hex(32)
        key = Key(id=text[:ID_LENGTH], name=name, sha256=record.digest(text), created=_now())
        _write(place, [*keys.keys, key])
    return KeyAdded(id=key.id, name=name, key=text, file=str(place), note=_note(project))


def listed(path: Path, *, sets: tuple[str, ...]) -> KeysListed:
    """List every key that was given out, the revoked ones too."""
    place = path_of(settings.load(path, sets=sets))
    lines = [
        KeyLine(id=key.id, name=key.name, created=key.created, revoked=key.revoked)
        for key in record.read_keys(place).keys
    ]
    return KeysListed(file=str(place), keys=lines)


def revoke(path: Path, *, sets: tuple[str, ...], which: str) -> KeyRevoked:
    """Take a key back, by its name or id; a running server refuses it within a second.

    Raises:
        ConfigError: no good key is called so.
    """
    place = path_of(settings.load(path, sets=sets))
    with files.lock(place.with_name(f".{place.name}.lock"), f"`{place}`", wait=True):
        keys = record.read_keys(place)
        found = [key for key in keys.active() if which in (key.name, key.id)]
        if not found:
            have = ", ".join(f"`{key.name}`" for key in keys.active()) or "none"
            raise ConfigError(
                f"no key is called `{which}`; there are: {have}",
                hint="type `mlstack serve keys ls`",
            )
        gone = msgspec.structs.replace(found[0], revoked=_now())
        _write(place, [gone if key is found[0] else key for key in keys.keys])
    return KeyRevoked(id=gone.id, name=gone.name, left=len(keys.active()) - 1)


def _note(project: Project) -> str:
    """Say so where a server runs that was started without keys: it asks for none."""
    running = server_record.running(Layout(project.root).state)
    if running is None or running.access.asks_for_keys:
        return ""
    return f"{running.url} goes on asking for no key until it is started again"


def _write(place: Path, keys: list[Key]) -> None:
    files.write_bytes(place, encode(Keys(keys=keys)), mode=0o600)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
