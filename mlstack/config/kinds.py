"""What the settings of mlstack.yaml are made of: a section, names, shares, times."""

from datetime import date
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

from mlstack.config.duration import DURATION, seconds

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"  # a folder, a URL and an image are called so
DOTTED_CLASS = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"
AUGMENT = r"^(none|basic|photo|strong|[A-Za-z_][\w.]*:[A-Za-z_]\w*)$"
ALERT_TARGET = r"^(log|exec:.+|https?://.+|env:[A-Za-z_][A-Za-z0-9_]*)$"
STORE = r"^(local|postgresql://([^:@/]+@)?[^@/]+/[^@]+)$"
SECRET = r"^env:[A-Za-z_][A-Za-z0-9_]*$"
ENDPOINT = r"^https?://[^\s/]+(/\S*)?$"
OPTION = r"^--?[A-Za-z][^\n]*$"

# What a value that does not fit one of the patterns above is not.
PATTERNS = {
    NAME: 'a name of 100 letters, digits, "_", "-" and "." at most',
    DOTTED_CLASS: 'a class as "package.module:Class"',
    AUGMENT: '"none", "basic", "photo", "strong", or a function as "package.module:function"',
    DURATION: 'a time such as "2h30m"',
    ALERT_TARGET: '"log", "exec:COMMAND", "https://WEBHOOK" or "env:NAME"',
    STORE: '"local" or "postgresql://USER@HOST/DATABASE" without a password',
    OPTION: 'an option of sbatch such as "--mem=32G"',
    ENDPOINT: 'an address as "http://HOST:PORT"',
    SECRET: 'a variable of the environment as "env:NAME"',
}

Name = Annotated[str, StringConstraints(pattern=NAME)]
DottedClass = Annotated[str, StringConstraints(pattern=DOTTED_CLASS)]
Share = Annotated[float, Field(ge=0, le=1)]
LONGEST_S = 36_525 * 86_400.0


def _bounded(text: str) -> str:
    if seconds(text) > LONGEST_S:
        raise ValueError(f"'{text}' is longer than a hundred years")
    return text


def _day(value: object) -> object:
    """Read a day that was written in quotes, as `config show` writes it."""
    if not isinstance(value, str):
        return value
    try:
        return date.fromisoformat(value)
    except ValueError as error:
        raise ValueError(f"'{value}' is no day such as 2026-02-20") from error


Day = Annotated[date, BeforeValidator(_day)]
Duration = Annotated[str, StringConstraints(pattern=DURATION), AfterValidator(_bounded)]
Secret = Annotated[str, StringConstraints(pattern=SECRET)]
Endpoint = Annotated[str, StringConstraints(pattern=ENDPOINT)]
AlertTarget = Annotated[str, StringConstraints(pattern=ALERT_TARGET)]


class Section(BaseModel):
    """A part of the file: unknown keys are refused, values never change."""

    # Strict: `epochs: "10"` and `seed: true` are mistakes. Deferred: only the whole is compiled,
    # which a config error need not wait for thirty times.
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        strict=True,
        defer_build=True,
        allow_inf_nan=False,
    )
