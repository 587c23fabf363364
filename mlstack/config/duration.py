"""Times as people write them: `2h30m`, `1.5d`."""

import re

DURATION = r"^(\d+(\.\d+)?[dhms])+$"
UNITS_S = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def seconds(text: str) -> float:
    """Turn a text that fits `DURATION` into seconds."""
    parts = re.findall(r"([\d.]+)([dhms])", text)
    return sum(float(number) * UNITS_S[unit] for number, unit in parts)
