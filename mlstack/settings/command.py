"""The command `config`."""

from pathlib import Path
from typing import Annotated

import typer

from mlstack.call import Call, common_options_anywhere, room

AllOption = Annotated[bool, typer.Option("--all", help="Show the defaults too.")]
OriginOption = Annotated[bool, typer.Option("--origin", help="Show who set each value.")]
WriteOption = Annotated[bool, typer.Option("--write", help="Write the file.")]


@common_options_anywhere
def config(call: Call, everything: AllOption = False, origin: OriginOption = False) -> None:
    """Show what is in force and why."""
    from mlstack.settings import api, view

    call.show(api.show(call.config, call.sets, everything=everything, origin=origin), view.draw)


app = room(config)


@app.command("show")
@common_options_anywhere
def show(call: Call, everything: AllOption = False, origin: OriginOption = False) -> None:
    """Show what is in force and why."""
    from mlstack.settings import api, view

    call.show(api.show(call.config, call.sets, everything=everything, origin=origin), view.draw)


@app.command("schema")
@common_options_anywhere
def schema(call: Call, write: WriteOption = False) -> None:
    """Print the JSON Schema of mlstack.yaml; --write puts it where editors look."""
    from mlstack.settings import api, view

    call.show(api.schema(call.config, write=write), view.draw)


@app.command("migrate")
@common_options_anywhere
def migrate(call: Call, write: WriteOption = False) -> None:
    """Show what changes when mlstack.yaml is brought to the newest version."""
    from mlstack.settings import api, view

    call.show(api.migrate(call.config, write=write), view.draw)


@app.command("feast")
@common_options_anywhere
def feast(
    call: Call,
    out: Annotated[
        Path | None, typer.Option(help="Folder for feature_store.yaml and definitions.py.")
    ] = None,
) -> None:
    """Print data.features as Feast's definitions; --out writes them."""
    from mlstack.settings import feast as api
    from mlstack.settings import view

    call.show(api.write(call.config, call.sets, out=out), view.draw)
