"""`live.json`: which package answers. Changed one at a time, replaced atomically."""

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from mlstack import files
from mlstack.errors import ConfigError, DataError
from mlstack.records import trusted
from mlstack.records.base import write
from mlstack.records.package import FILE_LIVE, Live, numbers, read_live, refuse_strange
from mlstack.serve import proof


def current(model: Path) -> Live:
    """Read what is live; nothing, when nobody ever promoted.

    Raises:
        DataError: the file is damaged.
    """
    path = model / FILE_LIVE
    return read_live(path) if path.is_file() else Live()


def newest(model: Path) -> int:
    """Give the number of the newest package.

    Raises:
        DataError: there is none.
    """
    have = numbers(model)
    if not have:
        raise DataError(
            f"there is no package in `{model}`",
            hint="type `mlstack export`; one elsewhere is served by `mlstack serve --model FOLDER`",
        )
    return have[-1]


def promote(model: Path, number: int) -> Live:
    """Make a package live after checking that it is whole and can be opened.

    Raises:
        ConfigError: there is no such package.
        DataError: the package is not whole; nothing is changed.
        GateError: it cannot be opened; nothing is changed.
    """
    _check(model, number)
    with _changing(model):
        live = current(model)
        if live.live == number:
            return _write(
                model, live, note=live.note
            )  # a server that failed to load it tries again
        ended: dict[str, object] = {}
        if live.canary == number:
            ended |= {"canary": None, "canary_percent": 0.0}
        if live.shadow == number:
            ended |= {"shadow": None, "shadow_percent": 0.0}
        return _write(model, live, live=number, previous=live.live, **ended)


def roll_back(model: Path) -> Live:
    """Make the package live that was live before; a running canary ends.

    Raises:
        ConfigError: there is none.
        DataError: it is not whole any more; nothing is changed.
        GateError: it cannot be opened; nothing is changed.
    """
    with _changing(model):
        live = current(model)
        if live.previous is None:
            raise ConfigError(
                "no package was live before this one", hint="type `mlstack serve promote N`"
            )
        _check(model, live.previous)
        ended: dict[str, object] = {"canary": None, "canary_percent": 0.0}
        if live.shadow == live.previous:
            ended |= {"shadow": None, "shadow_percent": 0.0}
        return _write(model, live, live=live.previous, previous=live.live, **ended)


def set_canary(model: Path, number: int, percent: float) -> Live:
    """Give a share of the requests to another package.

    Raises:
        ConfigError: there is no such package, it is the live one, or nothing is live.
        DataError: the package is not whole; nothing is changed.
        GateError: it cannot be opened; nothing is changed.
    """
    return _stand_beside(model, number, "canary", percent)


def set_shadow(model: Path, number: int, percent: float) -> Live:
    """Copy a share of the requests to another package, whose answers nobody gets.

    Raises:
        ConfigError: there is no such package, it is the live one, or nothing is live.
        DataError: the package is not whole; nothing is changed.
        GateError: it cannot be opened; nothing is changed.
    """
    return _stand_beside(model, number, "shadow", percent)


def end_canary(model: Path) -> tuple[Live, bool]:
    """Let the live package answer everything again; tell whether there was a canary to end.

    Raises:
        ConfigError: nothing is live.
    """
    return _end(model, "canary")


def end_shadow(model: Path) -> tuple[Live, bool]:
    """Ask the shadow no more; tell whether there was one.

    Raises:
        ConfigError: nothing is live.
    """
    return _end(model, "shadow")


def give_up_canary(model: Path, number: int, why: str) -> None:
    """End a canary because of what it did, unless somebody has ended or changed it since.

    Raises:
        BusyError: somebody changes the file at this moment.
    """
    with _changing(model):
        live = current(model)
        if live.canary == number:
            _write(model, live, canary=None, canary_percent=0.0, note=why)


def _stand_beside(model: Path, number: int, role: str, percent: float) -> Live:
    _check(model, number)
    with _changing(model):
        live = current(model)
        if live.live is None or live.live == number:
            problem = f"`{number}` is live already" if live.live else "nothing is live yet"
            raise ConfigError(
                f"{problem}; a {role} stands beside the live package",
                hint="type `mlstack serve status`",
            )
        return _write(model, live, **{role: number, f"{role}_percent": percent})


def _end(model: Path, role: str) -> tuple[Live, bool]:
    with _changing(model):
        live = current(model)
        if live.live is None:
            raise ConfigError(
                f"nothing is live yet, so there is no {role}", hint="type `mlstack serve promote`"
            )
        if getattr(live, role) is None:
            return live, False
        return _write(model, live, **{role: None, f"{role}_percent": 0.0}), True


def _check(model: Path, number: int) -> None:
    if number not in numbers(model):
        have = ", ".join(map(str, numbers(model))) or "none"
        raise ConfigError(
            f"there is no package `{number}` in `{model}`; there are: {have}",
            hint="type `mlstack serve status`",
        )
    refuse_strange(model / str(number))
    trusted.check(model / str(number))
    proof.check(model.absolute().parents[1], model / str(number))


@contextmanager
def _changing(model: Path) -> Iterator[None]:
    with files.lock(model / ".live.lock", f"`{model / FILE_LIVE}`"):
        yield


def _write(model: Path, before: Live, **changes: object) -> Live:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    changed = msgspec.structs.replace(before, **{"note": "", **changes}, changed=now)
    write(model / FILE_LIVE, changed)
    return changed
