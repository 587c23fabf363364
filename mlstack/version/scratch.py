"""The code and the data of a run, laid out anew in a git worktree of its own."""

import re
import shutil
import time
from dataclasses import replace
from pathlib import Path

import msgspec

from mlstack import files
from mlstack.config import Project
from mlstack.errors import DataError, StepError
from mlstack.launch.git import git
from mlstack.plurals import counted, plural
from mlstack.records import dvc
from mlstack.records.layout import Layout
from mlstack.records.run import RunSpec
from mlstack.version import content, history, listing, pointer, stock, trash
from mlstack.version.destination import remote_of
from mlstack.version.history import Dataset

BY_HASH = re.compile(r"^# new file (.+): sha256 ([0-9a-f]{64})$", re.M)  # in code.diff: too large
LOOK_S = 0.05
ORPHAN_S = 10.0  # that a git may go on after the command that started it was killed


def lay_out(layout: Layout, spec: RunSpec, scratch: Path) -> Path:
    """Check out the run's code and config; give the project's folder inside the worktree.

    Raises:
        DataError: the commit is not here, or what differed from it is lost, changed or unfitting.
    """
    remove(layout.root, scratch)
    prefix = git(layout.root, "rev-parse", "--show-prefix").strip()
    commit = str(spec.code.commit)
    try:
        git(layout.root, "worktree", "add", "--quiet", "--detach", str(scratch), commit)
    except StepError as error:
        raise DataError(
            f"the code of run {spec.id}, commit {commit[:7]}, is not here: {error.problem}",
            hint="type `git fetch --all`, then try again",
        ) from error
    home = scratch / prefix
    if spec.code.dirty:
        _apply(layout, spec, scratch, home)
    config = msgspec.json.format(msgspec.json.encode(spec.config), indent=2)
    files.write_bytes(home / "mlstack.yaml", config + b"\n")  # JSON is YAML
    return home


def put_data(project: Project, spec: RunSpec, home: Path) -> None:
    """Lay out the run's data from the cache, the trash or the remote.

    Raises:
        DataError: a file of it is in none of them.
    """
    here = Dataset(project.root, spec.dataset.source)
    there = Dataset(home, spec.dataset.source)
    cache = stock.cache_folder(project.root)
    wanted = _version(spec)
    trash.bring_back(cache, {wanted.kept.md5})
    if _absent(cache, wanted.kept.md5):
        _fetch(project, here, spec)
    version = content.of_version(cache, wanted, spec.dataset.revision or "")
    if absent := _absent(cache, wanted.kept.md5):
        revision = f" {spec.dataset.revision}" if spec.dataset.revision else ""
        raise DataError(
            f"{counted(len(absent), 'file')} of the run's data "
            f"{plural(len(absent), 'is', 'are')} not in the cache, e.g. `{absent[0]}`",
            hint=f"type `mlstack version pull{revision}`",
        )
    made = listing.made_of(cache, wanted.stored.md5) if wanted.stored else None
    for name in version.entries:
        (there.folder / name).parent.mkdir(parents=True, exist_ok=True)
        if made:
            files.write_chunks(there.folder / name, made.pour(name))
        else:
            shutil.copyfile(version.locate(name), there.folder / name)
    found = dvc.read_pointer(there.pointer)
    if (found is None or found.md5 != spec.dataset.md5) and spec.dataset.revision:
        text = history.pointer_text(there, spec.dataset.revision)
        kept = there.kept_of(dvc.parse_pointer(text, where=spec.dataset.revision))
        files.write_text(pointer.path_of(kept), text)
        pointer.drop_others(there, pointer.path_of(kept))


def _version(spec: RunSpec) -> dvc.Pointer:
    data = spec.dataset
    plain = dvc.Pointer(data.md5, data.files, data.size_bytes)
    return replace(plain, stored=dvc.Pointer(data.stored, 0, 0)) if data.stored else plain


def remove(root: Path, scratch: Path) -> None:
    """Take a scratch worktree away, also one that a killed command left."""
    until = time.monotonic() + ORPHAN_S
    while scratch.exists() and time.monotonic() < until:
        shutil.rmtree(scratch, ignore_errors=True)  # fails while a git that lost its command writes
        time.sleep(LOOK_S if scratch.exists() else 0)
    git(root, "worktree", "prune")


def _apply(layout: Layout, spec: RunSpec, scratch: Path, home: Path) -> None:
    patch = layout.run(spec.id) / (spec.code.diff_file or "code.diff")
    if not patch.is_file():
        if spec.code.diff_sha256 is None:
            return
        raise DataError(f"what differed from the commit is lost: there is no `{patch}`")
    if spec.code.diff_sha256 not in (None, files.sha256(patch)):
        raise DataError(f"`{patch}` is not what the run wrote", hint="bring the run's folder back")
    text = patch.read_bytes().decode(errors="surrogateescape")
    for name, digest in BY_HASH.findall(text):
        source = layout.root / name
        if not source.is_file() or files.sha256(source) != digest:
            raise DataError(
                f"the run used `{name}`, which git does not know, and it is not here as it was",
                hint=f"bring back the file with sha256 {digest[:12]}...",
            )
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, home / name)
    if "diff --git" not in text:
        return
    try:
        git(scratch, "apply", "--whitespace=nowarn", str(patch.resolve()))
    except StepError as error:
        raise DataError(
            f"`{patch}` does not fit commit {str(spec.code.commit)[:7]}: {error.problem}",
            hint="the run's code cannot be laid out again as it was",
        ) from error


def _absent(cache: Path, md5: str) -> list[str]:
    """Name what the cache lacks of a version: files, or the list of them."""
    if not listing.object_path(cache, md5).is_file():
        return ["the list of its files"]
    entries = listing.files_of(cache, md5)
    return [name for name, one in entries.items() if not listing.object_path(cache, one).is_file()]


def _fetch(project: Project, data: Dataset, spec: RunSpec) -> None:
    remote = remote_of(project)
    if spec.dataset.revision and (remote or stock.bridge().has_remote(project.root)):
        stock.bridge().fetch(data.root, data.pointer, remote, spec.dataset.revision)
