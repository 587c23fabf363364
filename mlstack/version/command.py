"""The command `version`."""

from typing import Annotated

import typer

from mlstack.call import Call, common_options, room

MessageOption = Annotated[str, typer.Option("--message", "-m", help="What changed.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Lose data that is in no snapshot.")]
RevisionArgument = Annotated[str, typer.Argument(help="Commit, branch or tag.")]
RunArgument = Annotated[
    str, typer.Argument(metavar="MODEL_OR_RUN", help="Run id, NAME/N, or a path of a package.")
]


@common_options
def version(
    call: Call,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Most to list.")] = 20,
) -> None:
    """Keep versions of data and models; alone, it lists them."""
    from mlstack.config import load
    from mlstack.version import api, view

    call.show(api.log(load(call.config, sets=call.sets), limit), view.draw)


app = room(version)


@app.command("snapshot")
@common_options
def snapshot(call: Call, message: MessageOption) -> None:
    """Put the data into DVC and commit its pointer: a new version."""
    from mlstack.config import load
    from mlstack.version import api, view

    call.show(api.snapshot(load(call.config, sets=call.sets), message), view.draw)


@app.command("log")
@common_options
def log(
    call: Call,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Most to list.")] = 20,
) -> None:
    """List the versions of the data, newest first."""
    from mlstack.config import load
    from mlstack.version import api, view

    call.show(api.log(load(call.config, sets=call.sets), limit), view.draw)


@app.command("diff")
@common_options
def diff(
    call: Call,
    first: Annotated[str, typer.Argument(metavar="A", help="Version before.")] = "HEAD",
    second: Annotated[
        str | None, typer.Argument(metavar="B", help="Version after [working tree].")
    ] = None,
) -> None:
    """Say which files and labels differ between two versions."""
    from mlstack.config import load
    from mlstack.version import api, view

    call.show(api.diff(load(call.config, sets=call.sets), first, second), view.draw)


@app.command("check")
@common_options
def check(call: Call) -> None:
    """Look for missing and damaged files, wrong labels and duplicates."""
    from mlstack.config import load
    from mlstack.version import checks, view

    call.show(checks.check(load(call.config, sets=call.sets)), view.draw)


@app.command("checkout")
@common_options
def checkout(call: Call, revision: RevisionArgument, force: ForceOption = False) -> None:
    """Put the data of a version into its folder; the code stays."""
    from mlstack.config import load
    from mlstack.version import api, view

    project = load(call.config, sets=call.sets)
    call.show(api.checkout(project, revision, force=force), view.draw)


@app.command("push")
@common_options
def push(
    call: Call,
    everything: Annotated[bool, typer.Option("--all", help="Every version in history.")] = False,
) -> None:
    """Copy the current version of the data to the remote."""
    from mlstack.config import load
    from mlstack.version import api, view

    call.show(api.push(load(call.config, sets=call.sets), everything=everything), view.draw)


@app.command("pull")
@common_options
def pull(
    call: Call,
    revision: Annotated[
        str | None, typer.Argument(help="Only fetch this version into the cache.")
    ] = None,
    force: ForceOption = False,
    from_source: Annotated[
        bool, typer.Option("--source", help="Copy what is new at the URL in data.source.")
    ] = False,
) -> None:
    """Fetch the data from the remote, or at first from its source, into its folder."""
    from mlstack.config import load
    from mlstack.version import api, view

    project = load(call.config, sets=call.sets)
    wish = api.Pull(revision, force=force, from_source=from_source)
    call.show(api.pull(project, wish), view.draw)


@app.command("show")
@common_options
def show(call: Call, wanted: RunArgument) -> None:
    """Say where a run or model comes from: data, code, config, seed, libraries."""
    from mlstack.config import load
    from mlstack.version import ancestry, view

    call.show(ancestry.show(load(call.config, sets=call.sets), wanted), view.draw)


@app.command("reproduce")
@common_options
def reproduce(call: Call, wanted: RunArgument) -> None:
    """Train a run again from its data, code, config and seed, and compare."""
    from mlstack.config import load
    from mlstack.version import repeat, view

    call.show(repeat.reproduce(load(call.config, sets=call.sets), wanted), view.draw)


@app.command("gc")
@common_options
def gc(
    call: Call,
    yes: Annotated[bool, typer.Option("--yes", help="Delete.")] = False,
    only_tips: Annotated[
        bool, typer.Option("--only-tips", help="Free what only older commits name, too.")
    ] = False,
) -> None:
    """Free cached data that no version, run or package needs."""
    from mlstack.config import load
    from mlstack.version import storage, view

    project = load(call.config, sets=call.sets)
    call.show(storage.gc(project, history_too=only_tips, yes=yes), view.draw)


@app.command("verify")
@common_options
def verify(call: Call) -> None:
    """Hash every cached file of every version again."""
    from mlstack.config import load
    from mlstack.version import storage, view

    call.show(storage.verify(load(call.config, sets=call.sets)), view.draw)
