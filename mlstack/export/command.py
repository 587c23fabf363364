"""The command `export`."""

from pathlib import Path
from typing import Annotated

import typer

from mlstack.call import Call, common_options, room


@common_options
def export(
    call: Call,
    run: Annotated[
        str | None, typer.Argument(help="Run id, or a part of one [the newest finished run].")
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            help="fp32, int8, fp16 (GPUs), or auto: the best that passes [export.quantize].",
            show_default=False,
        ),
    ] = "",
    budget: Annotated[
        str,
        typer.Option(
            help="What it may cost: size<5MB,p50<10ms,drop<0.5pt [export.budget].",
            show_default=False,
        ),
    ] = "",
    formats: Annotated[
        str,
        typer.Option("--format", help="Formats, with commas [export.formats].", show_default=False),
    ] = "",
    mlflow: Annotated[
        bool, typer.Option("--mlflow", help="Also write MLmodel, which MLflow reads.")
    ] = False,
    sign: Annotated[
        Path | None,
        typer.Option(metavar="KEY", help="Sign the manifest with an SSH key.", show_default=False),
    ] = None,
) -> None:
    """Turn a run into a verified model package; a red gate leaves none (exit 4)."""
    from mlstack.export import api, view

    call.show(
        api.export(
            call.config,
            sets=call.sets,
            wish=api.Wish(run, precision, formats, budget, mlflow, sign),
        ),
        view.draw,
    )


app = room(export)


@app.command("verify")
@common_options
def verify(
    call: Call,
    package: Annotated[
        str | None, typer.Argument(help="A folder, or NAME/N [the newest package].")
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="PUBLIC",
            help="Public SSH key whose owner must have signed it.",
            show_default=False,
        ),
    ] = None,
    formats: Annotated[
        str,
        typer.Option(
            "--format", help="Other formats to replay, too, with commas.", show_default=False
        ),
    ] = "",
) -> None:
    """Check a package's files and replay its golden examples; needs no torch."""
    from mlstack.export import api, view

    call.show(
        api.verify(call.config, sets=call.sets, wanted=package, doubt=api.Doubt(key, formats)),
        view.draw,
    )


@app.command("push")
@common_options
def push(
    call: Call,
    reference: Annotated[
        str, typer.Argument(metavar="REGISTRY/NAME[:TAG]", help="Where to [the package's number].")
    ],
    package: Annotated[
        str | None, typer.Argument(help="A folder, or NAME/N [the newest package].")
    ] = None,
) -> None:
    """Put a package into an OCI registry, as REGISTRY_USERNAME with REGISTRY_PASSWORD."""
    from mlstack.export import push as pushing
    from mlstack.export import view

    call.show(
        pushing.push(call.config, sets=call.sets, reference=reference, wanted=package), view.draw
    )
