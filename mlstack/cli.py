"""The commands on one page."""

import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from mlstack import __version__, ending
from mlstack.call import hurry, refuse_empty, show_help, typed_command
from mlstack.doctor.command import doctor
from mlstack.export import command as export
from mlstack.init.command import init
from mlstack.label import command as label
from mlstack.monitor import command as monitor
from mlstack.pipeline.command import run, status
from mlstack.serve import command as serve
from mlstack.settings import command as settings
from mlstack.train import command as train
from mlstack.tune import command as tune
from mlstack.version import command as version

ORDER = [
    "init",
    "label",
    "version",
    "train",
    "tune",
    "export",
    "serve",
    "monitor",
    "run",
    "doctor",
    "config",
    "status",
]


class InOrder(TyperGroup):
    """List the commands in the order of the work, not of the alphabet."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Give the names as a project meets them."""
        return sorted(self.commands, key=ORDER.index)


COMMANDS = {"init": init, "run": run, "doctor": doctor, "status": status}
GROUPS = {
    "label": label.app,
    "version": version.app,
    "train": train.app,
    "tune": tune.app,
    "export": export.app,
    "serve": serve.app,
    "monitor": monitor.app,
    "config": settings.app,
}


def assemble(typed: str = "") -> typer.Typer:
    """Put the commands together; only the typed one where there is one of that name.

    typer reads the signature of each command it is given, which costs as much as all the rest of
    a `--help`.
    """
    app = typer.Typer(
        cls=InOrder,
        help="From a folder of raw data to a monitored model in production, from one config file.",
        rich_markup_mode=None,
        add_completion=False,
        invoke_without_command=True,
    )
    app.callback()(start)
    for name in [typed] if typed in ORDER else ORDER:
        if name in GROUPS:
            app.add_typer(GROUPS[name], name=name)
        else:
            app.command(name, hidden=name == "status")(COMMANDS[name])
    return app


def start(
    ctx: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """From a folder of raw data to a monitored model in production, from one config file."""
    if show_version:
        sys.stdout.write(f"mlstack {__version__}\n")
        raise typer.Exit


def main() -> NoReturn:
    """Run a command and end with its exit code."""
    arguments = ["--help" if word == "-h" else word for word in _with_status(sys.argv[1:])]
    hurry()
    app = assemble(arguments[0])
    ending.run(lambda: _run(app, arguments), arguments)


def _run(app: typer.Typer, arguments: list[str]) -> Any:
    if show_help(app, arguments):
        return 0
    refuse_empty(arguments)
    try:
        return app(arguments, prog_name="mlstack", standalone_mode=False)
    except Exception as error:
        if getattr(error, "ctx", arguments) is None:  # an option without its value
            error.ctx = typed_command(app, arguments)  # type: ignore[attr-defined]
        raise


def _with_status(arguments: list[str]) -> list[str]:
    """Name the status screen, which is what `mlstack` shows without a command in a project."""
    if not arguments:
        here = Path.cwd()  # in a folder of a project, `status` says where the project is
        is_inside = any((one / "mlstack.yaml").is_file() for one in (here, *here.parents))
        return ["status"] if is_inside else ["--help"]
    shared = ("--config", "--set", "--json", "--quiet", "--debug")
    return ["status", *arguments] if arguments[0].startswith(shared) else arguments
