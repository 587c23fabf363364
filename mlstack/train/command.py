"""The command `train`."""

from pathlib import Path
from typing import Annotated

import typer

from mlstack.call import Call, common_options, room


@common_options
def train(
    call: Call,
    run: Annotated[str | None, typer.Argument(help="Run to go on with, after --resume.")] = None,
    gpus: Annotated[str | None, typer.Option(metavar="N|auto", help="GPUs to use.")] = None,
    ranks: Annotated[int | None, typer.Option(min=1, help="Processes on the CPU.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over train.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Examples per step.")] = None,
    check: Annotated[
        bool | None,
        typer.Option(
            "--check/--no-check",
            help="Try everything once, quickly; or train without, also if it will take long.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a stopped run.")] = False,
    from_run: Annotated[
        str | None, typer.Option(metavar="RUN", help="Begin with a run's settings.")
    ] = None,
    allow_dirty: Annotated[
        bool, typer.Option("--allow-dirty", help="Take data without a snapshot.")
    ] = False,
    on: Annotated[str, typer.Option(metavar="local|ray|slurm", help="Where to train.")] = "local",
    wait: Annotated[
        bool | None,
        typer.Option("--wait/--no-wait", help="Wait for GPUs in use [on a terminal]."),
    ] = None,
) -> None:
    """Train the model that mlstack.yaml describes."""
    from mlstack.train import api, request, view
    from mlstack.ui import waits

    asked = request.Request(
        run, gpus, ranks, epochs, batch_size, check, resume, from_run, allow_dirty, on, waits(wait)
    )
    call.show(api.start(call.config, call.sets, asked), view.draw)


app = room(train)


@app.command("ls")
@common_options
def ls(
    call: Call,
    best: Annotated[
        bool, typer.Option("--best", help="Best value of train.monitor first [newest first].")
    ] = False,
    state: Annotated[
        str | None,
        typer.Option(help="Only runs that are running, queued, finished, stopped or failed."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
) -> None:
    """List the runs, newest first."""
    from mlstack.train import runs, view

    call.show(runs.ls(call.config, call.sets, runs.Listing(best, state, limit)), view.draw)


@app.command("show")
@common_options
def show(
    call: Call,
    run: Annotated[str | None, typer.Argument(help="Run, or a part of its id [newest].")] = None,
    html: Annotated[Path | None, typer.Option(help="Also write a page to this file.")] = None,
) -> None:
    """Show a run: what it was made from, its metrics, its checkpoints."""
    from mlstack.train import runs, view

    call.show(runs.show(call.config, call.sets, run, html), view.draw)


@app.command("evaluate")
@common_options
def evaluate(
    call: Call,
    run: Annotated[
        str | None, typer.Argument(help="Run, or a part of its id [the newest finished one].")
    ] = None,
    wait: Annotated[
        bool | None,
        typer.Option("--wait/--no-wait", help="Wait for a GPU in use [on a terminal]."),
    ] = None,
) -> None:
    """Measure a run on its test part: by class, by slice, by example."""
    from mlstack.train import evaluate as room
    from mlstack.train import view
    from mlstack.ui import waits

    call.show(room.evaluate(call.config, call.sets, run, waits=waits(wait)), view.draw)


@app.command("compare")
@common_options
def compare(
    call: Call,
    run: Annotated[list[str], typer.Argument(help="Two runs or more.")],
    html: Annotated[Path | None, typer.Option(help="Also write a page to this file.")] = None,
) -> None:
    """Compare runs: settings, metrics, data and code."""
    from mlstack.train import runs, view

    call.show(runs.compare(call.config, call.sets, run, html), view.draw)


@app.command("mirror")
@common_options
def mirror(
    call: Call,
    run: Annotated[
        str | None, typer.Argument(help="Run, or a part of its id [all that are behind].")
    ] = None,
) -> None:
    """Bring the copies of runs in other trackers (track.mirror) up to date."""
    from mlstack.train import mirror as room
    from mlstack.train import view

    call.show(room.mirror(call.config, call.sets, run), view.draw)
