"""The command `tune`."""

from pathlib import Path
from typing import Annotated

import typer

from mlstack.call import Call, common_options, room


@common_options
def tune(
    call: Call,
    study: Annotated[
        str | None, typer.Argument(help="Study to go on with, after --resume [newest].")
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Settings to try.")] = None,
    gpus: Annotated[
        str | None, typer.Option(metavar="N|auto", help="GPUs that all trials share.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a stopped study.")] = False,
    allow_dirty: Annotated[
        bool, typer.Option("--allow-dirty", help="Take data without a snapshot.")
    ] = False,
    on: Annotated[str, typer.Option(metavar="local|ray", help="Where to tune.")] = "local",
    wait: Annotated[
        bool | None,
        typer.Option("--wait/--no-wait", help="Wait for GPUs in use [on a terminal]."),
    ] = None,
) -> None:
    """Search for better settings; each trial is a run."""
    from mlstack.tune import api, request, view
    from mlstack.ui import waits

    asked = request.Request(study, trials, gpus, resume, allow_dirty, on, waits(wait))
    call.show(api.start(call.config, call.sets, asked), view.draw)


app = room(tune)


@app.command("show")
@common_options
def show(
    call: Call,
    study: Annotated[str | None, typer.Argument(help="Study, or a part of its name.")] = None,
    html: Annotated[
        Path | None, typer.Option(help="Also draw the search on a page in this file.")
    ] = None,
) -> None:
    """Show the trials of a study, the best one and what mattered."""
    from mlstack.tune import api, view

    call.show(api.show(call.config, call.sets, study, html), view.draw)
