"""The command `version`."""

from pathlib import Path
from typing import Annotated

import typer

from mlstack.call import Call, common_options, common_options_anywhere, room

MessageOption = Annotated[str, typer.Option("--message", "-m", help="What changed.")]
PackedOption = Annotated[
    bool, typer.Option("--packed", help="Leave the files in their packs; train reads them there.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Lose data that is in no snapshot.")]
RevisionArgument = Annotated[str, typer.Argument(help="Commit, branch or tag.")]
OriginArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL_OR_RUN", help="NAME/N, a run id, a prediction id, a package or .onnx file."
    ),
]


@common_options
def version(
    call: Call,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Most to list.")] = 20,
) -> None:
    """Keep versions of data and models; alone, it lists them."""
    from mlstack.config import load
    from mlstack.version import journal, view

    call.show(journal.log(load(call.config, sets=call.sets), limit), view.draw)


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
    from mlstack.version import journal, view

    call.show(journal.log(load(call.config, sets=call.sets), limit), view.draw)


@app.command("diff")
@common_options
def diff(
    call: Call,
    first: Annotated[str, typer.Argument(metavar="A", help="Version before.")] = "HEAD",
    second: Annotated[
        str | None, typer.Argument(metavar="B", help="Version after [working tree].")
    ] = None,
    key: Annotated[
        list[str] | None, typer.Option("--key", metavar="COLUMN", help="Column that names a row.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write every row that differs as Parquet.")
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Draw the difference.")] = None,
) -> None:
    """Say what differs between two versions: files, labels, classes, columns, rows."""
    from mlstack.config import load
    from mlstack.version import same, view

    asked = same.Asked(first, second, tuple(key or ()), out, html)
    call.show(same.diff(load(call.config, sets=call.sets), asked), view.draw)


@app.command("check")
@common_options
def check(
    call: Call,
    learn: Annotated[
        bool, typer.Option("--learn", help="Allow what is there now, and commit that.")
    ] = False,
) -> None:
    """Look for damage, wrong labels, copies, leaks, and what differs from what was learned."""
    from mlstack.config import load
    from mlstack.version import checks, view

    call.show(checks.check(load(call.config, sets=call.sets), learn=learn), view.draw)


@app.command("checkout")
@common_options
def checkout(
    call: Call,
    revision: RevisionArgument,
    force: ForceOption = False,
    packed: PackedOption = False,
) -> None:
    """Put the data of a version into its folder; the code stays."""
    from mlstack.config import load
    from mlstack.version import api, view

    project = load(call.config, sets=call.sets)
    call.show(api.checkout(project, revision, force=force, packed=packed), view.draw)


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
    packed: PackedOption = False,
) -> None:
    """Fetch the data from the remote, or at first from its source, into its folder."""
    from mlstack.config import load
    from mlstack.version import pulling, view

    project = load(call.config, sets=call.sets)
    wish = pulling.Pull(revision, force=force, from_source=from_source, packed=packed)
    call.show(pulling.pull(project, wish), view.draw)


@app.command("show")
@common_options_anywhere
def show(call: Call, wanted: OriginArgument) -> None:
    """Say where a model, run or prediction comes from: data, code, config, seed, libraries."""
    from mlstack.config import load
    from mlstack.version import ancestry, view

    if not call.config.is_file() and Path(wanted).exists():  # a package or graph from elsewhere
        call.show(ancestry.show(None, wanted, str), view.draw)
    else:
        project = load(call.config, sets=call.sets)
        name = project.config.project.name
        call.show(ancestry.show(project.root, wanted, lambda: name), view.draw)


@app.command("reproduce")
@common_options
def reproduce(
    call: Call,
    wanted: OriginArgument,
    tolerance: Annotated[
        float, typer.Option(min=0, help="How much a metric may differ on another machine.")
    ] = 0.02,
) -> None:
    """Train a run again from its data, code, config and seed, and compare."""
    from mlstack.config import load
    from mlstack.version import repeat, view

    call.show(repeat.reproduce(load(call.config, sets=call.sets), wanted, tolerance), view.draw)


@app.command("merge-driver", hidden=True)
@common_options_anywhere
def merge_driver(call: Call, before: Path, ours: Path, theirs: Path, name: str) -> None:
    """Merge a .dvc file for git, which calls it with %O %A %B %P."""
    from mlstack.version import driver, view

    call.show(driver.drive(before, ours, theirs, name), view.draw)


@app.command("resolve")
@common_options
def resolve(
    call: Call,
    ours: Annotated[bool, typer.Option("--ours", help="Take our side of each conflict.")] = False,
    theirs: Annotated[bool, typer.Option("--theirs", help="Take the other side.")] = False,
) -> None:
    """Finish a git merge that left the data in conflict."""
    from mlstack.config import load
    from mlstack.errors import ConfigError
    from mlstack.version import driver, view

    if ours and theirs:
        raise ConfigError("--ours and --theirs are opposites", hint="give one of them")
    side = "ours" if ours else "theirs" if theirs else None
    call.show(driver.resolve(load(call.config, sets=call.sets).root, side), view.draw)


@app.command("gc")
@common_options
def gc(
    call: Call,
    yes: Annotated[bool, typer.Option("--yes", help="Move it to the trash.")] = False,
    only_tips: Annotated[
        bool, typer.Option("--only-tips", help="Free what only older commits name, too.")
    ] = False,
    recent: Annotated[
        int | None, typer.Option(min=0, metavar="DAYS", help="Keep data of newer runs [all].")
    ] = None,
    grace: Annotated[
        int, typer.Option(min=0, metavar="DAYS", help="How long the trash keeps it.")
    ] = 14,
    restore: Annotated[bool, typer.Option("--restore", help="Bring the trash back.")] = False,
    empty: Annotated[
        bool, typer.Option("--empty", help="Only delete what is past its days in the trash.")
    ] = False,
) -> None:
    """Free cached data that no version, run or package needs; the trash keeps it for a while."""
    from mlstack.config import load
    from mlstack.version import storage, view

    project = load(call.config, sets=call.sets)
    options = storage.GcOptions(only_tips, recent, grace, yes)
    call.show(storage.run(project, options, restore=restore, empty=empty), view.draw)


@app.command("verify")
@common_options
def verify(
    call: Call,
    fix: Annotated[
        bool, typer.Option("--fix", help="Replace damaged objects from the folder or the remote.")
    ] = False,
) -> None:
    """Hash every cached file of every version again."""
    from mlstack.config import load
    from mlstack.version import integrity, view

    call.show(integrity.verify(load(call.config, sets=call.sets), fix=fix), view.draw)
