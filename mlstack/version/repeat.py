"""Train a run again from its lineage and say whether the same model comes out.

The code is a git worktree of the run's commit with its diff applied, the data is copied from DVC's
cache by its MD5, the config is the resolved one. Compared are the final metrics, exactly, and the
tensors of the best checkpoint: a checkpoint is a zip file whose `data/N` members are the raw
numbers, so no torch is needed to compare them bit for bit.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from mlstack import files
from mlstack.config import Project
from mlstack.errors import DataError, MlstackError, StepError
from mlstack.launch.git import git
from mlstack.records import dvc
from mlstack.records.base import Record, read
from mlstack.records.layout import Layout
from mlstack.records.lineage import Lineage
from mlstack.records.package import SIDE
from mlstack.records.run import BEST, CHECKPOINTS, Finished, RunSpec, read_events, run_ids
from mlstack.version import ancestry, content, dvc_bridge
from mlstack.version.history import Dataset
from mlstack.version.result import MetricPair, Reproduced, Working


def reproduce(project: Project, wanted: str) -> Iterator[Record]:
    """Train again in a scratch folder, compare, and remove the folder when all is the same.

    Raises:
        DataError: the run cannot be made again: no commit, data in no snapshot or not here.
        StepError: the second training failed.
    """
    layout = Layout(project.root)
    spec = _spec(project, layout, wanted)
    scratch = layout.state / "reproduce" / spec.id
    with files.lock(scratch.with_name(f"{spec.id}.lock"), f"the repetition of {spec.id}"):
        yield Working(text=f"laying out commit {(spec.code.commit or '')[:7]} in {scratch}")
        home = _lay_out(layout, spec, scratch)
        yield Working(text=f"copying the data {spec.dataset.md5[:8]}")
        _put_data(project.root, spec, home)
        yield Working(text="training again")
        again = Layout(home).run(_train(home, spec))
        outcome = _compare(layout.run(spec.id), again)
        if outcome.same():
            _remove(project.root, scratch)
        yield outcome


def same_tensors(first: Path, second: Path) -> bool:
    """Tell whether two checkpoints hold the same numbers, bit for bit.

    Raises:
        DataError: one is missing or damaged.
    """
    return _tensors(first) == _tensors(second)


def _spec(project: Project, layout: Layout, wanted: str) -> RunSpec:
    package = ancestry.find_package(project.root, wanted, lambda: project.config.project.name)
    run = read(package / SIDE / ancestry.LINEAGE, Lineage).run if package else wanted
    spec = ancestry.find_spec(layout, run)
    if spec.code.commit is None:
        raise DataError(f"run {spec.id} was trained outside git; its code is not known")
    if spec.dataset.dirty:
        raise DataError(
            f"run {spec.id} was trained with --allow-dirty on data that is in no snapshot"
        )
    return spec


def _lay_out(layout: Layout, spec: RunSpec, scratch: Path) -> Path:
    """Check out the run's code and config; give the project's folder inside the worktree."""
    _remove(layout.root, scratch)
    prefix = git(layout.root, "rev-parse", "--show-prefix").strip()
    commit = str(spec.code.commit)
    try:
        git(layout.root, "worktree", "add", "--quiet", "--detach", str(scratch), commit)
    except StepError as error:
        raise DataError(
            f"the code of run {spec.id}, commit {commit[:7]}, is not here: {error.problem}",
            hint="type `git fetch --all`, then try again",
        ) from error
    patch = layout.run(spec.id) / (spec.code.diff_file or "code.diff")
    if spec.code.dirty and patch.is_file() and patch.stat().st_size:
        git(scratch, "apply", "--whitespace=nowarn", str(patch.resolve()))
    home = scratch / prefix
    config = msgspec.json.format(msgspec.json.encode(spec.config), indent=2)
    files.write_bytes(home / "mlstack.yaml", config + b"\n")  # JSON is YAML
    return home


def _put_data(root: Path, spec: RunSpec, home: Path) -> None:
    data = Dataset(home, spec.dataset.source)
    version = content.of_version(
        dvc_bridge.cache_folder(root), spec.dataset.md5, spec.dataset.revision or ""
    )
    for name, md5 in version.entries.items():
        origin = version.locate(name)
        if not origin.is_file():
            raise DataError(
                f"`{name}` ({md5[:8]}) of the run's data is not in the cache",
                hint=f"type `mlstack version pull {spec.dataset.revision or ''}`".replace(
                    " `", "`"
                ),
            )
        (data.folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(origin, data.folder / name)
    pointer = dvc.read_pointer(data.pointer)
    if (pointer is None or pointer.md5 != spec.dataset.md5) and spec.dataset.revision:
        name = dvc.pointer_path(Path(spec.dataset.source)).as_posix()
        text = git(home, "show", f"{spec.dataset.revision}:./{name}")
        files.write_text(data.pointer, text)


def _train(home: Path, spec: RunSpec) -> str:
    """Run `mlstack train` in the scratch project and give the id of its run."""
    settings = {k: v for k, v in os.environ.items() if not _OVERRIDE.match(k)}
    command = [sys.executable, "-m", "mlstack", "train", "--json"]
    with subprocess.Popen(
        command, cwd=home, env=settings, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            said, _ = process.communicate()
        except BaseException:  # stopped: the ranks below must end too, so no SIGKILL
            process.terminate()
            raise
    ids = run_ids(Layout(home).runs)
    if process.returncode == 0 and ids:
        return ids[-1]
    raise _failure(said, process.returncode, home)


_OVERRIDE = re.compile("MLSTACK_.*__")  # settings from the environment; the config has them all


def _failure(said: str, code: int, home: Path) -> MlstackError:
    try:
        error = json.loads(said)["error"]
        return StepError(f"training again failed: {error['problem']}", hint=error["hint"])
    except (ValueError, KeyError, TypeError):
        return StepError(f"training again ended with exit code {code}", hint=f"see {home}")


def _compare(first: Path, again: Path) -> Reproduced:
    one, two = _metrics(first), _metrics(again)
    return Reproduced(
        run=first.name,
        again=again.name,
        weights_equal=same_tensors(first / CHECKPOINTS / BEST, again / CHECKPOINTS / BEST),
        metrics=[
            MetricPair(name=name, first=one.get(name), again=two.get(name))
            for name in sorted(one.keys() | two.keys())
        ],
        folder=str(again),
    )


def _metrics(run: Path) -> dict[str, float]:
    for event in reversed(read_events(run)):
        if isinstance(event, Finished):
            return event.metrics
    raise DataError(f"run {run.name} is not finished", hint="type `mlstack train --resume`")


def _tensors(checkpoint: Path) -> dict[str, tuple[int, int]]:
    """Give size and CRC-32 of each member that holds numbers."""
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            return {
                member.filename.partition("/")[2]: (member.file_size, member.CRC)
                for member in archive.infolist()
                if "/data/" in member.filename
            }
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"cannot read the checkpoint `{checkpoint}`: {error}") from error


def _remove(root: Path, scratch: Path) -> None:
    """Take a scratch worktree away, also one that a killed command left."""
    shutil.rmtree(scratch, ignore_errors=True)
    git(root, "worktree", "prune")
