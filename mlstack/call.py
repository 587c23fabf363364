"""The options that every command has, said once."""

import functools
import gc
import inspect
import itertools
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mlstack.errors import ConfigError

Draw = Callable[[Any], Any]

ConfigOption = Annotated[Path, typer.Option("--config", help="Project file.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=VALUE", help="Override one setting.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Print only the final value.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]


DEFAULT = "(default)"
NO_PLUGINS = "PYDANTIC_DISABLE_PLUGINS"
SET_BY_USER = NO_PLUGINS in os.environ


def hurry() -> None:
    """Start without what only a long run needs: garbage collection, a search for plugins.

    pydantic reads the metadata of every installed package to find plugins, for a Typer option as
    for a model of the user. A tenth of the time until a config error is shown.
    """
    gc.disable()
    os.environ.setdefault(NO_PLUGINS, "__all__")


def settle() -> None:
    """Give the command, and the processes it starts, what `hurry` left out."""
    gc.enable()
    if not SET_BY_USER:
        os.environ.pop(NO_PLUGINS, None)


class RoomGroup(TyperGroup):
    """A group that runs its default command when no subcommand is named.

    `mlstack train --gpus 4` trains, `mlstack train ls` lists; positional arguments of the default
    command (`mlstack export RUN`) work as long as they are not named like a subcommand.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default command in front unless a subcommand or help is asked for."""
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Show the default command's help, then the subcommands."""
        default = self.commands[DEFAULT]
        with type(ctx)(default, info_name=ctx.info_name, parent=ctx.parent) as shown:
            default.format_help(shown, formatter)
        self.format_commands(ctx, formatter)


def room(default: Callable[..., None]) -> typer.Typer:
    """Open a command with subcommands; without one, `default` runs."""
    app = typer.Typer(
        cls=RoomGroup,
        help=default.__doc__,
        rich_markup_mode=None,
        add_completion=False,
        no_args_is_help=False,
    )
    app.command(DEFAULT, hidden=True, help=default.__doc__)(default)
    return app


def show_help(app: typer.Typer, arguments: list[str]) -> bool:
    """Print the help that `arguments` ask for; False when they ask for something else.

    typer would first read the options of every group above, for which it loads pydantic: twice
    the time of the help itself.
    """
    words = arguments[: arguments.index("--help")] if "--help" in arguments else []
    context = typed_command(app, words) if words else None
    if context is None or context.parent is None:
        return False
    sys.stdout.write(context.command.get_help(context) + "\n")
    return True


def typed_command(app: typer.Typer, words: list[str]) -> Any:
    """Give the context of the innermost command that `words` name, options left unread."""
    command: Any = typer.main.get_command(app)
    context = command.context_class(command, info_name="mlstack")
    for word in words:
        inner = getattr(command, "commands", {}).get(word)
        if inner is None:
            break
        command, context = inner, inner.context_class(inner, info_name=word, parent=context)
    return context


def refuse_empty(arguments: list[str]) -> None:
    """Refuse a value that says nothing, as of an unset variable; it would count as not given.

    Raises:
        ConfigError: one is; the word before it is named.
    """
    for before, word in itertools.pairwise(("mlstack", *arguments)):
        option, equals, value = (
            word.partition("=") if word.startswith("--") else (before, "=", word)
        )
        if equals and not value.strip(" ,"):
            raise ConfigError(
                f"what stands after `{option}` says nothing",
                hint="write a value, or leave out what may be; is a variable of the shell not set?",
            )


@dataclass(frozen=True)
class Call:
    """How a command was called: which project, which overrides, which kind of output."""

    config: Path = Path("mlstack.yaml")
    sets: tuple[str, ...] = ()
    json: bool = False
    quiet: bool = False
    debug: bool = False

    def show(self, results: Any, draw: Draw) -> None:
        """Show one record, or the records of an iterator as they come; exit with its code."""
        from mlstack import ui  # noqa: PLC0415  rich is loaded only to show something

        mode = ui.Mode.JSON if self.json else ui.Mode.QUIET if self.quiet else ui.Mode.TEXT
        code = ui.show(results if _is_stream(results) else iter((results,)), draw, mode)
        if code:
            raise typer.Exit(code)


def common_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace a command's parameter `call` by the options that every command has.

    The project file, where there is one, is checked before the command imports its room: a
    mistake in it is shown without waiting for anything heavy.
    """
    return _with_options(command, _check)


def common_options_anywhere(command: Callable[..., None]) -> Callable[..., None]:
    """Do the same for a command that needs no valid project."""
    return _with_options(command, lambda _: None)


def _check(call: Call) -> None:
    if call.config.is_file():
        from mlstack.config import load  # noqa: PLC0415  help needs no pydantic

        load(call.config, sets=call.sets)


def _with_options(
    command: Callable[..., None], check: Callable[[Call], None]
) -> Callable[..., None]:
    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.name != "call"]
    shared = [
        _option("config", ConfigOption, Path("mlstack.yaml")),
        _option("sets", SetOption, None),
        _option("json", JsonOption, False),
        _option("quiet", QuietOption, False),
        _option("debug", DebugOption, False),
    ]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        call = Call(
            config=given.pop("config"),
            sets=tuple(given.pop("sets") or ()),
            json=given.pop("json"),
            quiet=given.pop("quiet"),
            debug=given.pop("debug"),
        )
        check(call)
        settle()
        command(call=call, **given)

    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + shared
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
    del run.__wrapped__  # typer must read the signature above, not the one below
    return run


def _option(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default
    )


def _is_stream(results: Any) -> bool:
    return isinstance(results, Iterable) and not hasattr(results, "__struct_fields__")
