"""API keys: `.mlstack/keys.json` holds a hash of each, never the key itself.

A key is 256 random bits, so one SHA-256 is enough: there is nothing that could be guessed.
"""

import hashlib
import hmac
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import msgspec

from mlstack import shell
from mlstack.errors import ConfigError
from mlstack.records.base import Record, read

FILE = "keys.json"
ENVIRONMENT = "MLSTACK_SERVE_KEYS"  # of the server: keys, divided by commas
OWN = "MLSTACK_API_KEY"  # of a caller: the key that `serve predict` and `monitor probe` send
MIN_LENGTH = 32
OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Key(Record, frozen=True, kw_only=True, tag="serve.key"):
    """One key: who has it, and what it hashes to."""

    id: str  # the first characters of the key, to tell keys apart
    name: str
    sha256: str
    created: str  # UTC, ISO 8601
    revoked: str = ""  # the same; empty while it is good


class Keys(Record, frozen=True, kw_only=True, tag="serve.keys"):
    """Every key that was ever given out."""

    keys: list[Key] = msgspec.field(default_factory=list)

    def active(self) -> list[Key]:
        """List those that are good."""
        return [key for key in self.keys if not key.revoked]


def digest(key: str) -> str:
    """Hash a key, in hexadecimal."""
    return hashlib.sha256(key.encode()).hexdigest()


def find(keys: list[Key], given: str) -> Key | None:
    """Find the key that was given; takes as long for the first as for none."""
    hashed = digest(given)
    found = None
    for key in keys:
        if hmac.compare_digest(hashed, key.sha256):
            found = key
    return found


def read_keys(path: Path) -> Keys:
    """Read the file of keys; none when it is not there.

    Raises:
        ConfigError: others may read or change it.
        DataError: it is damaged.
    """
    if not path.exists():
        return Keys()
    refuse_readable(path, OTHERS)
    return read(path, Keys)


def refuse_readable(path: Path, forbidden: int) -> None:
    """Refuse a file of secrets with one of the `forbidden` permission bits, or of somebody else.

    Raises:
        ConfigError: what is wrong, and the command that repairs it.
    """
    status = path.stat()
    if status.st_uid not in (os.geteuid(), 0):
        raise ConfigError(
            f"`{path}` belongs to another user (uid {status.st_uid})",
            hint=f"type `chown {os.geteuid()} {shell.path(path)}`",
        )
    if status.st_mode & forbidden:
        raise ConfigError(
            f"others may read or change `{path}` (mode {stat.S_IMODE(status.st_mode):o})",
            hint=f"type `chmod 600 {shell.path(path)}`",
        )


def from_environment(environment: Mapping[str, str]) -> list[Key]:
    """Read the keys that the environment gives to a server.

    Raises:
        ConfigError: one is too short to be safe.
    """
    texts = [text.strip() for text in environment.get(ENVIRONMENT, "").split(",")]
    given = [text for text in texts if text]
    for place, text in enumerate(given, 1):
        if len(text) < MIN_LENGTH:
            raise ConfigError(
                f"key {place} in `{ENVIRONMENT}` has {len(text)} characters; "
                f"{MIN_LENGTH} are the least",
                hint="make one with `openssl rand -hex 32`",
            )
    name = f"env:{ENVIRONMENT}"
    return [Key(id="env", name=name, sha256=digest(text), created="") for text in given]


def own_headers(environment: Mapping[str, str]) -> dict[str, str]:
    """Give the header that a caller of ours sends: the key in `MLSTACK_API_KEY`, if any."""
    key = environment.get(OWN, "").strip()
    return {"authorization": f"Bearer {key}"} if key else {}
