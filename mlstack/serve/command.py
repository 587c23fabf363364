"""The command `serve`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mlstack.call import Call, common_options, room

Device = Annotated[
    Literal["auto", "cpu", "gpu"] | None, typer.Option(help="Where the model runs [from the file].")
]


@common_options
def serve(
    call: Call,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    device: Device = None,
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="PACKAGE_OR_ONNX",
            help="Serve this instead of the live package; it needs no project.",
        ),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Ask for no API key, wherever it listens.")
    ] = False,
) -> None:
    """Serve the live model over HTTP."""
    from mlstack.serve import start, view

    output: Literal["text", "json", "quiet"] = (
        "json" if call.json else "quiet" if call.quiet else "text"
    )
    wanted = start.Wanted(
        host=host, port=port, device=device, model=model, output=output, is_insecure=insecure
    )
    call.show(start.serve(call.config, sets=call.sets, wanted=wanted), view.draw)


app = room(serve)


@app.command("promote")
@common_options
def promote(
    call: Call,
    number: Annotated[int | None, typer.Argument(help="Package [the newest].")] = None,
) -> None:
    """Make a package live; a running server changes over without a pause."""
    from mlstack.serve import api, view

    call.show(api.promote(call.config, sets=call.sets, number=number), view.draw)


@app.command("rollback")
@common_options
def rollback(call: Call) -> None:
    """Make the package live that was live before."""
    from mlstack.serve import api, view

    call.show(api.roll_back(call.config, sets=call.sets), view.draw)


@app.command("canary")
@common_options
def canary(
    call: Call,
    number: Annotated[int | None, typer.Argument(help="Package that gets a share.")] = None,
    percent: Annotated[
        float | None, typer.Option(min=0, max=100, help="Its share of the requests.")
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="End the canary.")] = False,
) -> None:
    """Give a share of the requests to another package."""
    from mlstack.serve import api, view

    wanted = api.Wanted(number=number, percent=percent, is_off=off)
    call.show(api.canary(call.config, sets=call.sets, wanted=wanted), view.draw)


@app.command("shadow")
@common_options
def shadow(
    call: Call,
    number: Annotated[int | None, typer.Argument(help="Package that is asked too.")] = None,
    percent: Annotated[
        float | None, typer.Option(min=0, max=100, help="Share of the requests [all].")
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="End the shadow.")] = False,
) -> None:
    """Ask another package too, compare its answers, and give them to nobody."""
    from mlstack.serve import api, view

    wanted = api.Wanted(number=number, percent=percent, is_off=off)
    call.show(api.shadow(call.config, sets=call.sets, wanted=wanted), view.draw)


@app.command("status")
@common_options
def status(call: Call) -> None:
    """Show what is live, what else there is, and whether a server runs."""
    from mlstack.serve import api, view

    call.show(api.status(call.config, sets=call.sets), view.draw)


@app.command("predict")
@common_options
def predict(
    call: Call,
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Images, texts or tables (.csv, .parquet, .jsonl)."),
    ],
    url: Annotated[str | None, typer.Option(help="Ask this server instead.")] = None,
    device: Device = None,
) -> None:
    """Answer files, by the live package or by a server."""
    from mlstack.serve import api, view

    asked = api.Asked(names=files, url=url, device=device)
    call.show(api.predict(call.config, sets=call.sets, asked=asked), view.draw)


@app.command("bench")
@common_options
def bench(
    call: Call,
    device: Device = None,
    largest: Annotated[int, typer.Option(min=1, max=2048, help="Largest batch.")] = 64,
) -> None:
    """Time the live package, alone and behind a server, and say what to set."""
    from mlstack.serve import api, view

    call.show(api.bench(call.config, sets=call.sets, device=device, largest=largest), view.draw)


@common_options
def keys_ls(call: Call) -> None:
    """List the API keys that were given out, and make or revoke them."""
    from mlstack.serve import keys, view

    call.show(keys.listed(call.config, sets=call.sets), view.draw)


keys_app = room(keys_ls)
keys_app.command("ls")(keys_ls)
app.add_typer(keys_app, name="keys")


@keys_app.command("add")
@common_options
def keys_add(
    call: Call, name: Annotated[str, typer.Argument(help="Who gets it, for your own memory.")]
) -> None:
    """Make a key and show it once."""
    from mlstack.serve import keys, view

    call.show(keys.add(call.config, sets=call.sets, name=name), view.draw)


@keys_app.command("revoke")
@common_options
def keys_revoke(
    call: Call, which: Annotated[str, typer.Argument(metavar="NAME_OR_ID", help="Which key.")]
) -> None:
    """Take a key back; a running server refuses it within a second."""
    from mlstack.serve import keys, view

    call.show(keys.revoke(call.config, sets=call.sets, which=which), view.draw)
