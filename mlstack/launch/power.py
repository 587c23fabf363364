"""The energy meters of the processors (RAPL), where the kernel lets everybody read them.

Each package counts microjoules up to a limit and begins again (Documentation/power/powercap in the
kernel; since 5.10 only root may read them, unless an administrator changed that).
"""

import re
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
PACKAGE = re.compile(r"intel-rapl:\d+")  # of AMD's, too; a second number is a part of a package


class Meter:
    """What the processors of this machine take, for whomever they work."""

    def __init__(self, powercap: Path = POWERCAP) -> None:
        zones = sorted(powercap.glob("intel-rapl:*"))
        self._before = {
            zone: count
            for zone in zones
            if PACKAGE.fullmatch(zone.name) and (count := _read(zone / "energy_uj")) is not None
        }

    def joules(self) -> float | None:
        """Give what was taken since the last call; None where nothing can be read."""
        taken = 0
        for zone, before in self._before.items():
            now = _read(zone / "energy_uj")
            if now is None:
                return None
            self._before[zone] = now
            taken += now - before
            if now < before:
                taken += _read(zone / "max_energy_range_uj") or before
        return taken / 1e6 if self._before else None


def _read(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
