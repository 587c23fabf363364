"""The commands that people type most, without what the command line takes to load.

typer and the check of the whole mlstack.yaml take longer than a look at 50,000 files. What is
typed in one of a few plain forms is run here; every other form is left to `cli.py`, which calls the
same functions.
"""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

from mlstack import config, ui
from mlstack.config import Project
from mlstack.records import known
from mlstack.records.base import Record
from mlstack.version import api, pulling, same, view

FILE = Path("mlstack.yaml")
MODES = {"--json", "--quiet"}
Step = Callable[[Project], Iterator[Record]]


def find(arguments: list[str]) -> Callable[[], int] | None:
    """Give what runs `version ...` at once; None when `cli.py` is to read it."""
    words = [word for word in arguments[1:] if word not in MODES]
    step = _step(words)
    if step is None or len(arguments) > len(words) + 2 or not FILE.is_file():
        return None
    return lambda: _run(step, ui.show_mode(arguments))


def _step(words: list[str]) -> Step | None:
    match words:
        case ["diff"]:
            return lambda project: same.diff(project, same.Asked("HEAD"))
        case ["push"]:
            return lambda project: api.push(project, everything=False)
        case ["pull"]:
            return lambda project: pulling.pull(project, pulling.Pull())
        case ["checkout", revision] if not revision.startswith("-"):
            return lambda project: api.checkout(project, revision, force=False)
        case ["snapshot", "-m" | "--message", message] if not message.startswith("-"):
            return lambda project: api.snapshot(project, message)
    return None


def _run(step: Step, mode: ui.Mode) -> int:
    gc.disable()  # lists of 100,000 names are looked through in vain, again and again
    project = known.project(FILE)
    if project.config.data.is_remote:  # what is copied from a URL needs every setting of `data`
        project = config.load(FILE)
    return ui.show(step(project), view.draw, mode)
