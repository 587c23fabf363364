"""A connection to Postgres, whose errors leave as ours; imported only where one is asked for."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from mlstack.errors import BusyError, ConfigError, DataError

TIMEOUT_S = 10
PASSING = ("starting up", "shutting down", "too many", "recovery")  # refusals that pass by


@dataclass(frozen=True)
class Address:
    """Where a server is, and which settings of the project say so."""

    url: str
    password: str | None  # env:NAME
    setting: str  # e.g. data.source
    password_setting: str  # e.g. data.password


@contextmanager
def connected(address: Address) -> Iterator[Any]:
    """Open a connection for one transaction.

    Raises:
        ConfigError: the server refuses who asks, or does not understand what is asked.
        DataError: a value cannot be read.
        BusyError: the server cannot be reached.
    """
    with _told(address), psycopg.connect(address.url, **_options(address)) as connection:
        yield connection


def _options(address: Address) -> dict[str, Any]:
    options: dict[str, Any] = {"connect_timeout": TIMEOUT_S, "application_name": "mlstack"}
    if address.password is not None:
        name = address.password.removeprefix("env:")
        if name not in os.environ:
            raise ConfigError(
                f"{address.password_setting}: the variable `{name}` is not set",
                hint=f"type `export {name}=...`, then try again",
            )
        options["password"] = os.environ[name]
    return options


@contextmanager
def _told(address: Address) -> Iterator[None]:
    """Turn an error of the server into one of ours."""
    try:
        yield
    except psycopg.OperationalError as error:
        text = _first_line(error)
        if "FATAL" in str(error) and not any(word in str(error) for word in PASSING):
            raise ConfigError(
                f"{address.setting}: the server refuses: {text}",
                hint=f"look at the URL and at {address.password_setting}: env:NAME",
            ) from error
        raise BusyError(
            f"{address.setting}: `{address.url}` cannot be reached: {text}",
            hint="is it there? Then try again",
        ) from error
    except (psycopg.ProgrammingError, psycopg.errors.ReadOnlySqlTransaction) as error:
        raise ConfigError(
            f"{address.setting}: the server does not accept: {_first_line(error)}",
            hint="correct what is asked; only SELECT is run",
        ) from error
    except psycopg.DataError as error:
        raise DataError(f"{address.setting}: {_first_line(error)}", hint="cast it") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
