"""The command `monitor`."""

from pathlib import Path
from typing import Annotated

import typer

from mlstack.call import Call, common_options, room

WindowOption = Annotated[
    int | None, typer.Option(min=1, help="Predictions to look at [monitor.window].")
]
SinceOption = Annotated[
    str | None, typer.Option(help='Only predictions since then: "2h", "1d" or an ISO time.')
]
ModelOption = Annotated[str | None, typer.Option(help="Model to look at [the project's].")]


@common_options
def monitor(call: Call) -> None:
    """Watch the served model live; q or Ctrl-C ends it. Without a terminal: one look."""
    from mlstack.monitor import api, view

    where = api.Where(call.config, call.sets)
    if view.is_screen(call):
        view.live(api.watch(where))
    else:
        call.show(api.status(where), view.draw_status)


app = room(monitor)


@app.command("check")
@common_options
def check(
    call: Call, window: WindowOption = None, since: SinceOption = None, model: ModelOption = None
) -> None:
    """Look once for drift, wrong answers and service trouble; exit code 5 on an alert."""
    from mlstack.monitor import api, view

    where, asked = api.Where(call.config, call.sets), api.Asked(window, since, model)
    call.show(api.check(where, asked), view.draw)


@app.command("report")
@common_options
def report(
    call: Call,
    out: Annotated[Path | None, typer.Option(help="Where to write [.mlstack/reports/].")] = None,
    window: WindowOption = None,
    since: SinceOption = None,
    model: ModelOption = None,
) -> None:
    """Check, and write one HTML file that shows what was found."""
    from mlstack.monitor import api, view

    where, asked = api.Where(call.config, call.sets), api.Asked(window, since, model)
    call.show(api.report(where, asked, out), view.draw)


@app.command("probe")
@common_options
def probe(
    call: Call,
    url: Annotated[
        str | None,
        typer.Option(help="The endpoint [this project's server, or serve.host:serve.port]."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How often to ask.")] = 1,
    interval: Annotated[float, typer.Option(min=0, help="Seconds between.")] = 10.0,
) -> None:
    """Ask the endpoint for its health and one known prediction; exit code 5 when it is not well."""
    from mlstack.monitor import api, view

    where = api.Where(call.config, call.sets)
    call.show(api.probed(where, url, count=count, interval_s=interval), view.draw)


@app.command("sql")
@common_options
def sql(
    call: Call, query: Annotated[str, typer.Argument(help="One query that only reads.")]
) -> None:
    """Ask the request log in SQL: the tables are `requests` and `feedback`."""
    from mlstack.monitor import api, view

    call.show(api.sql(api.Where(call.config, call.sets), query), view.draw)
