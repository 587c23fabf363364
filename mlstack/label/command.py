"""The command `label` and its subcommands."""

from pathlib import Path
from typing import Annotated

import typer

from mlstack.call import Call, common_options, room
from mlstack.label.names import Format


@common_options
def label(
    call: Call,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8010,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    share: Annotated[
        bool, typer.Option("--share", help="Let others in by a link with a token.")
    ] = False,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the address, open nothing.")
    ] = False,
    annotator: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who labels [your login name].")
    ] = None,
) -> None:
    """Label images in the browser; Ctrl-C ends it."""
    from mlstack.label import api, view

    address = api.Address(host, port, share, annotator or api.default_annotator())
    call.show(api.label(call, address, browser=not no_browser), view.draw)


app = room(label)


@app.command("import")
@common_options
def import_file(
    call: Call,
    file: Annotated[
        Path,
        typer.Argument(
            help="CSV (path,label), JSON lines (Prodigy) or Label Studio JSON; or the data "
            "folder, whose images without a label get the name of their folder."
        ),
    ],
    skip_invalid: Annotated[
        bool, typer.Option("--skip-invalid", help="Import the rows that are right.")
    ] = False,
) -> None:
    """Take over labels from a file, or from the names of folders."""
    from mlstack.label import api, view

    call.show(api.import_file(call, file, skip_invalid=skip_invalid), view.draw)


@app.command()
@common_options
def export(
    call: Call,
    format: Annotated[Format, typer.Option(help="What to write.")] = Format.PARQUET,
    out: Annotated[
        Path | None, typer.Option(help="File to write [labels.parquet in the data folder].")
    ] = None,
    drop_missing: Annotated[
        bool, typer.Option("--drop-missing", help="Leave out labels of files that are gone.")
    ] = False,
) -> None:
    """Write the labels file that train reads."""
    from mlstack.label import api, view

    target = api.Target(format, out, drop_missing)
    call.show(api.export(call, target), view.draw)


@app.command()
@common_options
def check(call: Call) -> None:
    """Refuse wrong labels and annotators who do not agree."""
    from mlstack.label import api, view

    call.show(api.check(call), view.draw)


@app.command()
@common_options
def stats(call: Call) -> None:
    """Count labels by class and by annotator."""
    from mlstack.label import api, view

    call.show(api.stats(call), view.draw)


@app.command()
@common_options
def rebuild(
    call: Call,
    from_events: Annotated[
        bool, typer.Option("--from-events", help="Drop labels that nobody gave here.")
    ] = False,
) -> None:
    """Check and repair labels.db, then write labels.parquet anew."""
    from mlstack.label import api, view

    call.show(api.rebuild(call, from_events=from_events), view.draw)
