"""The live package as the status screen sees it: whether it is whole, and its open alert."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mlstack.errors import DataError
from mlstack.pipeline import labels
from mlstack.records.base import read
from mlstack.records.layout import Layout
from mlstack.records.package import MANIFEST, SIDE, Live, Manifest
from mlstack.records.report import ONGOING, Alert, Ongoing


@dataclass(frozen=True)
class OpenAlert:
    """An alert of the live package that no later check has closed."""

    alert: Alert
    is_reported: bool  # a report was written since
    new_labels: int  # label events since


def damage(model: Path, number: int | None) -> str:
    """Say what keeps a package from being served, as far as sizes tell; empty when nothing does."""
    if number is None:
        return ""
    package = model / str(number)
    if not package.is_dir():
        return f"there is no package {number}"
    try:
        manifest = read(package / SIDE / MANIFEST, Manifest)
    except DataError:
        return f"the manifest of package {number} is damaged"
    present = [package / name for name in manifest.files if (package / name).is_file()]
    if len(present) < len(manifest.files):
        return f"package {number} lacks {len(manifest.files) - len(present)} of its files"
    if sum(path.stat().st_size for path in present) != manifest.size_bytes:
        return f"files of package {number} were cut off or changed"
    return ""


def open_alert(layout: Layout, name: str, live: Live | None) -> OpenAlert | None:
    """Find the alert that the last check of the live package left open."""
    state = layout.alerts / ONGOING
    if live is None or not state.is_file():
        return None
    alert = read(state, Ongoing).alerts.get(f"{name}/{live.live}")
    if alert is None or not (layout.alerts / f"{alert.id}.json").is_file():
        return None
    created_s = datetime.fromisoformat(alert.created).timestamp()
    return OpenAlert(
        alert=alert,
        is_reported=_is_reported(layout, alert),
        new_labels=labels.events_since(layout, created_s),
    )


def _is_reported(layout: Layout, alert: Alert) -> bool:
    if alert.report and (layout.root / alert.report).is_file():
        return True
    written = (layout.alerts / f"{alert.id}.json").stat().st_mtime
    return any(page.stat().st_mtime >= written for page in layout.reports.glob("*.html"))
