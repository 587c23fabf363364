"""Which data is needed: by commits, stashes and worktrees, by runs and by model packages.

Git is asked for every MD5 that stands in a `.dvc` or `dvc.lock` file. That marks a little more than
DVC itself would, dependencies for example, and never less.
"""

import re
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from mlstack.errors import StepError
from mlstack.launch.git import git
from mlstack.records.base import read
from mlstack.records.layout import Layout
from mlstack.records.lineage import Lineage
from mlstack.records.package import SIDE, numbers
from mlstack.records.run import SPEC, RunSpec, run_ids

POINTERS = (":(top,glob)**/*.dvc", ":(top,glob)**/dvc.lock")
PLAIN = ("-U0", "--text", "--no-color", "--no-ext-diff", "--no-textconv")  # whatever git is told
MD5 = re.compile(r"\bmd5: *['\"]?([0-9a-f]{32}(?:\.dir)?)\b")
RUN_TIME = "%Y%m%d-%H%M%S"


def of_git(root: Path, *, history: bool) -> set[str]:
    """List the MD5 of every output that git knows of.

    Args:
        root: the project.
        history: count every commit; otherwise the tips of branches and tags, the stashes, and
            what is checked out in each worktree.
    """
    places = [Path(place) for place in _worktrees(root)]
    extra = [*_stashes(root), *_heads(places)]
    if history:
        words = ("-c", "log.showRoot=true", "log", "--all", "-m", "-p", "--format=", *PLAIN)
        committed = git(root, *words, *extra, "--", *POINTERS)
    else:
        committed = _grep(root, [*_tips(root), *extra])
    found = set(MD5.findall(committed))
    for place in places:
        found |= _checked_out(place)
    return found


def of_records(root: Path, since: datetime | None = None) -> set[str]:
    """List the data of runs and packages; a record that cannot be read stops the collection.

    Args:
        root: the project.
        since: leave out runs that are older.
    """
    layout = Layout(root)
    first = f"{since:{RUN_TIME}}" if since else ""
    datasets = [
        read(layout.run(run) / SPEC, RunSpec).dataset
        for run in run_ids(layout.runs)
        if run >= first
    ]
    for model in layout.models.iterdir() if layout.models.is_dir() else ():
        for number in numbers(model):
            path = model / str(number) / SIDE / "lineage.json"
            if path.is_file():
                datasets.append(read(path, Lineage).dataset)
    return {md5 for one in datasets for md5 in (one.md5, one.stored) if md5}


def _worktrees(root: Path) -> list[str]:
    listed = git(root, "worktree", "list", "--porcelain", "-z").split("\0")
    return [line.removeprefix("worktree ") for line in listed if line.startswith("worktree ")]


def _heads(places: Iterable[Path]) -> list[str]:
    found = []
    for place in places:
        try:
            found.append(git(place, "rev-parse", "--verify", "--quiet", "HEAD").strip())
        except (StepError, OSError):  # no commit yet, or a worktree whose folder is gone
            continue
    return found


def _stashes(root: Path) -> list[str]:
    try:
        return git(root, "stash", "list", "--format=%H %P").split()
    except StepError:  # no commit yet
        return []


def _tips(root: Path) -> list[str]:
    lines = git(root, "for-each-ref", "--format=%(objectname) %(objecttype) %(*objecttype)")
    commits = (line.split() for line in lines.splitlines())
    return [words[0] for words in commits if "commit" in words[1:]]


def _grep(root: Path, tips: list[str]) -> str:
    if not tips:
        return ""
    try:
        words = ("grep", "--no-color", "-h", "-a", "-e", "md5:", *dict.fromkeys(tips))
        return git(root, *words, "--", *POINTERS)
    except StepError:  # not a line fits
        return ""


def _checked_out(place: Path) -> set[str]:
    """List what the files of a worktree, ignored ones too, and its index say."""
    if not place.is_dir():
        return set()
    listed = git(place, "ls-files", "-z", "-co", "--", *POINTERS)
    paths = [place / name for name in listed.split("\0") if name]
    texts = [path.read_text(errors="replace") for path in paths if path.is_file()]
    staged = git(place, "diff", "--cached", *PLAIN, "--", *POINTERS)
    return {md5 for text in (*texts, staged) for md5 in MD5.findall(text)}
