"""Find the server of a project."""

import os
from pathlib import Path

from mlstack.config import Project
from mlstack.records import server as server_record
from mlstack.records.base import read
from mlstack.records.layout import Layout
from mlstack.records.server import ServerSpec


def running_server(project: Project) -> ServerSpec | None:
    """Find the server of this project, if its process still lives."""
    place = server_record.path(Layout(project.root).state)
    if not place.is_file():
        return None
    spec = read(place, ServerSpec)
    try:
        os.kill(spec.pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # somebody else's; it lives
    return spec if _is_ours(spec.pid) else None


def _is_ours(pid: int) -> bool:
    """Tell our process from another that got its number, after a restart of the machine say."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True  # nothing tells
    return b"mlstack" in command
