"""The server as people and service managers start it, without what the command line takes to load.

typer and the check of the whole mlstack.yaml take longer than opening a small model. `serve` with
none but its plain options is read here once its settings were checked; every other form is left
to `cli.py`, which calls the same function.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any, Literal

from mlstack import ui
from mlstack.config import Project
from mlstack.records import known
from mlstack.serve import start

VALUES = ("--port", "--host", "--device")
MODES: dict[str, Literal["json", "quiet"]] = {"--json": "json", "--quiet": "quiet"}


def find(arguments: list[str]) -> Callable[[], int] | None:
    """Give what runs `serve ...` at once; None when `cli.py` is to read it."""
    wanted = _wanted(arguments[1:])
    if wanted is None or not start.FILE.is_file():
        return None
    try:
        project = known.checked(start.FILE)
    except OSError:  # `cli.py` meets it too, and says what it is
        return None
    return None if project is None else lambda: _run(project, wanted, ui.show_mode(arguments))


def _wanted(words: list[str]) -> start.Wanted | None:
    given: dict[str, str] = {}
    modes: list[Literal["json", "quiet"]] = []
    rest = iter(words)
    for word in rest:
        if word in MODES:
            modes.append(MODES[word])
            continue
        name, equals, value = word.partition("=")
        if name not in VALUES or name in given:
            return None
        given[name] = value if equals else next(rest, "")
    port, device = given.get("--port", "0"), given.get("--device", "auto")
    is_plain = port.isdecimal() and port.isascii() and len(port) < 6 and int(port) < 1 << 16
    if len(modes) > 1 or not is_plain or device not in ("auto", "cpu", "gpu"):
        return None
    if given.get("--host", "-")[:1] == "-" and "--host" in given:
        return None
    return start.Wanted(
        host=given.get("--host"),
        port=int(port) if "--port" in given else None,
        device=given.get("--device"),
        output=modes[0] if modes else "text",
    )


def _run(project: Project, wanted: start.Wanted, mode: ui.Mode) -> int:
    return ui.show(start.become_server(project, wanted), _draw, mode)


def _draw(record: Any) -> Any:
    """Draw what there is to see, which is rare; only then is rich loaded."""
    return import_module("mlstack.serve.view").draw(record)
