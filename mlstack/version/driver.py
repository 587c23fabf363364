"""Git's merge driver for `.dvc` files, and finishing a merge that it could not finish alone."""

from pathlib import Path

from mlstack import files, shell
from mlstack.errors import ConfigError, DataError, StepError
from mlstack.launch.git import git
from mlstack.records import dvc
from mlstack.version import stock
from mlstack.version.merge import Merged, Sides, merge, merge_text
from mlstack.version.result import MergedPointer


def drive(before: Path, ours: Path, theirs: Path, name: str) -> MergedPointer:
    """Merge as git asks for it: the result goes into `ours`, conflicts into the answer.

    What is no pointer of a folder is merged line by line, with conflict marks, as git would.

    Raises:
        DataError: files of a version are not here; ours is left as it was.
    """
    texts = Sides(*(path.read_text() for path in (before, ours, theirs)))
    top = Path.cwd()
    try:
        merged = _merge(top / name, texts, None)
    except DataError as error:
        if "cache" in error.problem:
            raise DataError(
                f"{name}: {error.problem}",
                hint="type `mlstack version pull REVISION` for the other side, then "
                "`mlstack version resolve`",
            ) from error
        count = merge_text(ours, before, theirs)
        return MergedPointer(path=name, by_line=True, lines=count)
    files.write_text(ours, merged.text)
    return _answer(name, merged)


def resolve(root: Path, side: str | None) -> MergedPointer:
    """Merge again a pointer that git left in conflict, and tell git that it is settled.

    Args:
        root: the project.
        side: `ours` or `theirs` settles every conflict.

    Raises:
        ConfigError: git has no `.dvc` file in conflict, or one side removed it or has another
            layout.
        DataError: files of a version are not here.
    """
    listed = git(root, "ls-files", "--unmerged", "-z", "--full-name", "--", "*.dvc").split("\0")
    names = sorted({line.partition("\t")[2] for line in listed if line})
    if not names:
        raise ConfigError("no `.dvc` file is in conflict here", hint="type `git status`")
    top = Path(git(root, "rev-parse", "--show-toplevel").strip())
    name = names[0]
    texts = Sides(*(_stage(top, stage, name) for stage in (1, 2, 3)))
    if not texts.ours or not texts.theirs:
        _refuse_other_layout(top / name)
        raise ConfigError(
            f"one side removed `{name}`",
            hint=f"type `git add {shell.path(name)}` or `git rm {shell.path(name)}`",
        )
    merged = _merge(top / name, texts, side)
    files.write_text(top / name, merged.text)
    if not merged.conflicts:
        git(top, "add", "--", name)
    return _answer(name, merged, others=names[1:])


def _refuse_other_layout(pointer: Path) -> None:
    """Refuse to choose between two layouts: what the other side changed would be lost."""
    dataset = pointer.with_suffix("")
    stem = dataset.name
    for suffix in filter(None, dvc.SUFFIXES.values()):
        stem = stem.removesuffix(suffix)
    pointers = [dataset.with_name(f"{stem}{suffix}.dvc") for suffix in dvc.SUFFIXES.values()]
    if others := [path for path in pointers if path != pointer and path.is_file()]:
        raise ConfigError(
            f"one side keeps the data by `{pointer.name}`, the other by `{others[0].name}`",
            hint="type `git merge --abort`, snapshot this side with the versioning.layout of the "
            "other, then merge again",
        )


def _merge(pointer: Path, texts: Sides, side: str | None) -> Merged:
    home = next((one for one in pointer.parents if (one / ".dvc").is_dir()), None)
    if home is None:
        raise DataError(f"`{pointer}` is in no DVC repository")
    return merge(stock.cache_folder(home), texts, side)


def _stage(top: Path, stage: int, name: str) -> str:
    try:
        return git(top, "show", f":{stage}:{name}")
    except StepError:  # that side has none
        return ""


def _answer(name: str, merged: Merged, others: list[str] | None = None) -> MergedPointer:
    return MergedPointer(
        path=name,
        ours=merged.ours,
        theirs=merged.theirs,
        conflicts=merged.conflicts,
        others=others or [],
    )
