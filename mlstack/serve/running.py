"""Find the server of a project."""

import os

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
        return spec
    return spec
