"""`live.json`: which package answers. Changed one at a time, replaced atomically."""

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from mlstack import files
from mlstack.errors import ConfigError, DataError
from mlstack.records.base import read, write
from mlstack.records.package import Live, numbers, verify_files

FILE = "live.json"


def current(model: Path) -> Live:
    """Read what is live; nothing, when nobody ever promoted.

    Raises:
        DataError: the file is damaged.
    """
    path = model / FILE
    return read(path, Live) if path.is_file() else Live()


def newest(model: Path) -> int:
    """Give the number of the newest package.

    Raises:
        DataError: there is none.
    """
    have = numbers(model)
    if not have:
        raise DataError(f"there is no package in `{model}`", hint="type `mlstack export`")
    return have[-1]


def promote(model: Path, number: int) -> Live:
    """Make a package live after checking that it is whole.

    Raises:
        ConfigError: there is no such package.
        DataError: the package is not whole; nothing is changed.
    """
    _check(model, number)
    with _changing(model):
        live = current(model)
        if live.live == number:
            return live
        canary = None if live.canary == number else live.canary
        percent = live.canary_percent if canary is not None else 0.0
        return _write(
            model, live, live=number, previous=live.live, canary=canary, canary_percent=percent
        )


def roll_back(model: Path) -> Live:
    """Make the package live that was live before; a running canary ends.

    Raises:
        ConfigError: there is none.
        DataError: it is not whole any more; nothing is changed.
    """
    with _changing(model):
        live = current(model)
        if live.previous is None:
            raise ConfigError(
                "no package was live before this one", hint="type `mlstack serve promote N`"
            )
        _check(model, live.previous)
        return _write(
            model, live, live=live.previous, previous=live.live, canary=None, canary_percent=0.0
        )


def set_canary(model: Path, number: int, percent: float) -> Live:
    """Give a share of the requests to another package.

    Raises:
        ConfigError: there is no such package, it is the live one, or nothing is live.
        DataError: the package is not whole; nothing is changed.
    """
    _check(model, number)
    with _changing(model):
        live = current(model)
        if live.live is None or live.live == number:
            problem = f"`{number}` is live already" if live.live else "nothing is live yet"
            raise ConfigError(
                f"{problem}; a canary stands beside the live package",
                hint="type `mlstack serve status`",
            )
        return _write(model, live, canary=number, canary_percent=percent)


def end_canary(model: Path) -> tuple[Live, bool]:
    """Let the live package answer everything again; tell whether there was a canary to end.

    Raises:
        ConfigError: nothing is live.
    """
    with _changing(model):
        live = current(model)
        if live.live is None:
            raise ConfigError(
                "nothing is live yet, so there is no canary", hint="type `mlstack serve promote`"
            )
        if live.canary is None:
            return live, False
        return _write(model, live, canary=None, canary_percent=0.0), True


def _check(model: Path, number: int) -> None:
    if number not in numbers(model):
        have = ", ".join(map(str, numbers(model))) or "none"
        raise ConfigError(
            f"there is no package `{number}` in `{model}`; there are: {have}",
            hint="type `mlstack serve status`",
        )
    verify_files(model / str(number))


@contextmanager
def _changing(model: Path) -> Iterator[None]:
    with files.lock(model / ".live.lock", f"`{model / FILE}`"):
        yield


def _write(model: Path, before: Live, **changes: object) -> Live:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    changed = msgspec.structs.replace(before, **changes, changed=now)
    write(model / FILE, changed)
    return changed
