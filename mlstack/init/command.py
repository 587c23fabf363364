"""The command `init`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mlstack.call import Call, common_options_anywhere


@common_options_anywhere
def init(
    call: Call,
    name: Annotated[Path, typer.Argument(metavar="NAME", help="Folder to make.")],
    template: Annotated[
        str, typer.Option(help="image-classification, text-classification, tabular or bare.")
    ] = "image-classification",
    data: Annotated[
        Path | None,
        typer.Option(
            help="Own data: a folder per class, or labels.csv (path,label); a CSV or Parquet file."
        ),
    ] = None,
    label: Annotated[
        str, typer.Option(metavar="COLUMN", help="Column of the class, where --data is a table.")
    ] = "",
    ci: Annotated[
        Literal["github", "gitlab", "none"], typer.Option(help="Write a CI workflow.")
    ] = "github",
    deploy: Annotated[str, typer.Option(metavar="LIST", help="Any of docker,systemd,k8s.")] = "",
) -> None:
    """Start a project that runs as it lies."""
    from mlstack.init import api, view

    wish = api.Wish(target=name, template=template, data=data, label=label, ci=ci, deploy=deploy)
    api.refuse_overrides(call.config, call.sets)
    call.show(api.init(wish), view.draw)
