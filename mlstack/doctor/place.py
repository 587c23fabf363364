"""Checks of the project: config, git, DVC, and the clock by which all of it is dated."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from mlstack import files, shell
from mlstack.config import Project, load
from mlstack.doctor.check import Check, fail, ok, warning
from mlstack.errors import MachineError, MlstackError, StepError
from mlstack.launch.dataset import refill
from mlstack.launch.git import git, is_repository, uncommitted
from mlstack.plurals import counted, plural
from mlstack.records import dvc
from mlstack.records.dataset_hash import is_packed
from mlstack.records.layout import Layout

CLOCK_SLACK_S = 300
MIB = 1 << 20
CHECK_S = 180
LOADER = "loading keeps up"  # what `train --check` calls it
OLDEST_YEAR = 2025


def config(path: Path, sets: tuple[str, ...]) -> tuple[Check, Project | None]:
    """Read the project file, if there is one."""
    if not path.is_file():
        return ok("config", f"no {path} here; checked the machine only"), None
    try:
        project = load(path, sets=sets)
    except MlstackError as error:
        return fail(
            "config", error.problem, f"mlstack config show --config {shell.path(path)}"
        ), None
    return ok("config", f"{path} ok"), project


def git_state(root: Path, *, is_project: bool) -> Check:
    """Look at git: installed, a repository, what is not committed.

    Where no project is yet nothing is advised: `mlstack init` makes a repository of its own.
    """
    try:
        return _git_state(root, is_project=is_project)
    except MlstackError as error:
        return fail("git", error.problem, error.hint or "git status")


def _git_state(root: Path, *, is_project: bool) -> Check:
    version = git(root, "--version").strip().removeprefix("git version ")
    if not is_project:
        return ok("git", version)
    if not is_repository(root):
        return warning("git", f"{version}; {root} is not in a repository", "git init")
    changed = uncommitted(root)
    if changed:
        what = counted(len(changed), "file is", "files are")
        detail = f"{version}; {what} not committed: {', '.join(changed[:3])}"
        return warning("git", detail, "git add -A && git commit; runs record the difference too")
    return ok("git", f"{version}; everything is committed")


def data_state(project: Project) -> Iterator[Check]:
    """Compare the data folder with its DVC pointer by count and size."""
    source = project.root / project.config.data.folder
    name = "data"
    if not source.is_dir() and not is_packed(source):
        yield warning(name, f"there is no folder {source}", refill(project) or "put the data there")
        return
    try:
        pointer = dvc.read_pointer(dvc.pointer_path(source))
    except MlstackError as error:
        yield fail(name, error.problem, error.hint)
        return
    if pointer is None:
        yield warning(name, f"{source} has no version yet", 'mlstack version snapshot -m "first"')
        return
    try:
        sizes = [path.stat().st_size for path in files.walk(source)] if source.is_dir() else []
    except OSError as error:
        said = f"`{error.filename}` cannot be read: {error.strerror}"
        yield fail(name, said, f"ls -l {shell.path(str(error.filename))} says why")
        return
    if is_packed(source):
        yield ok(name, f"{pointer.files:,} {plural(pointer.files, 'file')}, in packs")
    elif (len(sizes), sum(sizes)) != (pointer.files, pointer.size_bytes):
        now = counted(len(sizes), "file")
        detail = f"{source} differs from its last version: {now}, then {pointer.files}"
        way = 'mlstack version snapshot -m "what changed"' if sizes else refill(project)
        yield warning(name, detail, way)
    else:
        yield ok(name, f"{len(sizes):,} {plural(len(sizes), 'file')}, as in the last version")
    if not project.config.versioning.remote:
        yield warning(
            "backup",
            "data versions are kept on this disk only",
            "set versioning.remote, then mlstack version push",
        )


def kept(project: Project) -> Check:
    """Say how much room is taken by what inputs were made into."""
    name, state = "kept inputs", Layout(project.root).state
    sizes = {
        what: sum(path.stat().st_size for path in (state / folder).rglob("*") if path.is_file())
        for what, folder in (
            ("decoded images", "decoded"),
            ("tokenised texts", "tokens"),
            ("tables with features", "features"),
        )
    }
    told = ", ".join(f"{size / MIB:,.0f} MiB of {what}" for what, size in sizes.items() if size)
    return ok(name, f"{told}; `mlstack version gc` frees what nothing needs" if told else "none")


def loader(project: Project, path: Path, sets: tuple[str, ...]) -> Check:
    """Have `train --check` say whether the data comes as fast as the model takes it."""
    name, again = "loader", "mlstack train --check"
    words = [sys.executable, "-m", "mlstack", "train", "--check", "--no-wait", "--json"]
    words += ["--config", str(path.resolve()), *(part for one in sets for part in ("--set", one))]
    try:
        done = subprocess.run(
            words, cwd=project.root, capture_output=True, timeout=CHECK_S, check=False
        )
        said = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return warning(name, f"`{again}` takes more than {CHECK_S} s", again)
    except ValueError:
        return warning(name, f"`{again}` ended with exit code {done.returncode}", again)
    if done.returncode and LOADER not in said["error"]["problem"]:
        return ok(name, f"not tried: {said['error']['problem'].splitlines()[0]}")
    if done.returncode:
        return warning(name, said["error"]["problem"], said["error"]["hint"] or again)
    found = next((one for one in said["checks"] if one["name"] == LOADER), None)
    return ok(name, found["detail"] if found else f"`{again}` did not look at it")


def clock(root: Path) -> Check:
    """See that no commit lies in the future: lineage and logs are dated by this clock."""
    now = datetime.now(UTC)
    detail = f"{now.isoformat(timespec='seconds')}"
    last = _last_commit(root)
    if now.year < OLDEST_YEAR or last > time.time() + CLOCK_SLACK_S:
        return fail("clock", f"{detail} lies before the last commit", "timedatectl set-ntp true")
    return ok("clock", detail)


def _last_commit(root: Path) -> float:
    try:
        return float(git(root, "log", "-1", "--format=%ct").strip() or 0)
    except (StepError, MachineError):
        return 0.0
