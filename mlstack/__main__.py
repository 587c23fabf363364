"""`python -m mlstack` and the command `mlstack`."""

import sys
from importlib import import_module
from pathlib import Path
from typing import NoReturn

MODES = {"--json", "--quiet"}
PLAIN = (["snapshot"], ["diff"], ["checkout"], ["push"], ["pull"])


def main() -> NoReturn:
    """Run at once what is typed most; leave every other command to `cli.py`."""
    code = show_at_once(sys.argv[1:])
    if code is None:
        run_at_once(sys.argv[1:])
        from mlstack.cli import main as run  # noqa: PLC0415  typer costs more than the answer

        run()
    sys.exit(code)


def run_at_once(arguments: list[str]) -> None:
    """Run what is typed in its plain form, `serve` or a command of `version`; else come back."""
    is_server = arguments[:1] == ["serve"] and (arguments[1:2] or ["--"])[0].startswith("--")
    if not is_server and (arguments[:1] != ["version"] or arguments[1:2] not in PLAIN):
        return
    from mlstack import ending  # noqa: PLC0415  other commands need none of these here

    room = import_module(f"mlstack.{arguments[0]}.at_once")
    if command := room.find(arguments):
        ending.run_and_vanish(command, arguments)


def show_at_once(arguments: list[str]) -> int | None:
    """Answer `version show WORD [--json | --quiet]`; None for anything else, and for any trouble.

    It is the way of `cli.py` without what that takes to load: typer, the pydantic that typer
    reads arguments with, and the whole config. Whatever goes wrong here goes wrong there again,
    and is said there.
    """
    words = [word for word in arguments[2:] if word not in MODES]
    if arguments[:2] != ["version", "show"] or len(words) != 1 or words[0].startswith("-"):
        return None
    if len(arguments) > 4 or words[0].isdigit():  # N alone needs the project's name
        return None
    from mlstack import ui  # noqa: PLC0415  other commands need none of these here
    from mlstack.errors import MlstackError  # noqa: PLC0415
    from mlstack.version import ancestry, origin  # noqa: PLC0415

    root = Path("mlstack.yaml").resolve().parent if Path("mlstack.yaml").is_file() else None
    try:
        answer = ancestry.show(root, words[0], str)
        return ui.show(iter((answer,)), origin.draw, ui.show_mode(arguments))
    except (MlstackError, OSError, ValueError):
        return None


if __name__ == "__main__":
    main()
