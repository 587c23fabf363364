"""The command `run`, and the status screen that bare `mlstack` shows."""

from typing import Annotated

import typer

from mlstack.call import Call, common_options


@common_options
def run(
    call: Call,
    stage: Annotated[str | None, typer.Argument(help="Last stage to bring up to date.")] = None,
    only: Annotated[
        bool, typer.Option("--only", help="Run just this stage, stale or not.")
    ] = False,
) -> None:
    """Bring every stale stage up to date."""
    from mlstack.config import load
    from mlstack.pipeline import api, execute, view

    options = ["--config", str(call.config.resolve())]
    for item in call.sets:
        options += ["--set", item]
    manner = execute.Manner(tuple(options), is_silent=call.json or call.quiet)
    project = load(call.config, sets=call.sets)
    call.show(api.run(project, stage, manner, only=only), view.draw)


@common_options
def status(call: Call) -> None:
    """Show the state of every stage and the next command to type."""
    from mlstack.config import load
    from mlstack.pipeline import status, view

    call.show(status.status(load(call.config, sets=call.sets)), view.draw)
