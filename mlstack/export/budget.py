"""`size<5MB,p50<10ms,drop<0.5pt` -> what a variant may cost, and which one is within."""

import re
from dataclasses import dataclass

from mlstack.errors import ConfigError
from mlstack.records.variants import Variant

UNITS = {
    "size": {"B": 1.0, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20},
    "p50": {"ms": 1.0, "us": 1e-3, "s": 1e3},
    "p95": {"ms": 1.0, "us": 1e-3, "s": 1e3},
    "drop": {"pt": 1.0},
}
ONE = re.compile(r"\s*(\w+)\s*<=?\s*([0-9.]+)\s*([A-Za-z]+)\s*")
HINT = "write it like size<5MB,p50<10ms,drop<0.5pt"


@dataclass(frozen=True)
class Limit:
    """One part of a budget."""

    name: str  # size, p50, p95 or drop
    value: float  # bytes, milliseconds or percent points
    text: str

    def used(self, variant: Variant) -> float:
        """Give how much of it a variant takes: 1 is all of it, more is over."""
        measured = _measured(self.name, variant)
        if measured <= 0:
            return 0.0
        return measured / self.value if self.value else float("inf")

    def told(self, variant: Variant) -> str:
        """Say what a variant has of it, in a unit that people use."""
        measured = _measured(self.name, variant)
        if self.name == "size":
            return f"size {measured / 1e6:.3g} MB"
        return f"{self.name} {measured:.3g} {'pt' if self.name == 'drop' else 'ms'}"


@dataclass(frozen=True)
class Budget:
    """All limits; none is no budget."""

    limits: tuple[Limit, ...] = ()

    def exceeded(self, variant: Variant) -> list[str]:
        """Name what a variant takes too much of."""
        over = [limit for limit in self.limits if limit.used(variant) > 1]
        return [f"{limit.told(variant)}, not {limit.text}" for limit in over]

    def strain(self, variant: Variant) -> float:
        """Give the share of the limit that is used most; at most 1 is within the budget."""
        return max((limit.used(variant) for limit in self.limits), default=0.0)


def parse(text: str, *, key: str = "--budget") -> Budget:
    """Read a budget; an empty text is none.

    Raises:
        ConfigError: it is written in another way; the part that is wrong is named.
    """
    parts = [part for part in text.split(",") if part.strip()]
    limits = tuple(_limit(part, key) for part in parts)
    names = [limit.name for limit in limits]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{key}: `{name}` is limited twice", hint=HINT)
    return Budget(limits)


def _limit(part: str, key: str) -> Limit:
    found = ONE.fullmatch(part)
    if found is None:
        raise ConfigError(f"{key}: `{part.strip()}` is not a limit", hint=HINT)
    name, number, unit = found.groups()
    if name not in UNITS:
        known = ", ".join(UNITS)
        raise ConfigError(f"{key}: `{name}` cannot be limited", hint=f"choose of {known}")
    if unit not in UNITS[name]:
        known = ", ".join(UNITS[name])
        raise ConfigError(f"{key}: `{unit}` is no unit of {name}", hint=f"choose of {known}")
    try:
        value = float(number) * UNITS[name][unit]
    except ValueError as error:
        raise ConfigError(f"{key}: `{number}` is not a number", hint=HINT) from error
    return Limit(name, value, part.strip())


def _measured(name: str, variant: Variant) -> float:
    """Give a figure of a variant; what was not measured is over any limit."""
    single = next((times for times in variant.times if times.batch == 1), None)
    figures = {
        "size": variant.size_bytes,
        "drop": variant.drop_points,
        "p50": single.p50_ms if single else None,
        "p95": single.p95_ms if single else None,
    }
    found = figures[name]
    return float("inf") if found is None else float(found)
