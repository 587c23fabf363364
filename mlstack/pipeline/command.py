"""The command `run`, and the status screen that bare `mlstack` shows."""

from typing import Annotated

import typer

from mlstack.call import Call, common_options


@common_options
def run(
    call: Call,
    stage: Annotated[
        str | None, typer.Argument(help="Stage to bring up to date, with what it needs [all].")
    ] = None,
    dry: Annotated[
        bool, typer.Option("--dry", help="Only say what would run, and every reason.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Run the stage, or all, though up to date.")
    ] = False,
    only: Annotated[
        bool, typer.Option("--only", help="Run just this stage, stale or not.")
    ] = False,
    retries: Annotated[
        int, typer.Option(min=0, max=20, help="Attempts more where something is busy (exit 75).")
    ] = 3,
) -> None:
    """Bring every stale stage up to date."""
    from mlstack.pipeline import api, view

    wish = api.Wish(stage, only=only, force=force)
    call.show(api.answer(call, wish, retries=retries, dry=dry), view.draw)


@common_options
def status(call: Call) -> None:
    """Show the state of every stage and the next command to type."""
    from mlstack.config import load
    from mlstack.pipeline import status, view

    call.show(status.status(load(call.config, sets=call.sets)), view.draw)
