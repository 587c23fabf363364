"""Settings under their whole names, for tables and for trackers that know no trees."""

from typing import Any


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Give every setting its whole name: `train.epochs` instead of a tree."""
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= flat(inner, f"{prefix}.{key}" if prefix else str(key))
    return found
