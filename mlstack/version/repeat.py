"""Train a run again from its lineage and say how near the same model comes out.

The code is a git worktree of the run's commit with its diff applied, the data comes from DVC's
cache by its MD5, the config is the resolved one. Four levels can be reached: data-identical,
code-identical (with config and seed), metric-equal, bit-equal. On the same machine with the same
libraries, without a GPU, only the last one will do; elsewhere the metrics must agree within a
tolerance.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from mlstack import files
from mlstack.config import Project
from mlstack.errors import DataError, MlstackError, StepError
from mlstack.launch import environment, tether
from mlstack.records.base import Record, read
from mlstack.records.layout import Layout
from mlstack.records.run import BEST, CHECKPOINTS, SPEC, Finished, RunSpec, read_events, run_ids
from mlstack.version import ancestry, scratch, tensors
from mlstack.version.ancestry import flatten
from mlstack.version.lineage import Divergence, MetricPair, Reproduced
from mlstack.version.result import Working

TOLERANCE = 0.02
NAMED = 20  # tensors that are named; the rest is counted
_OVERRIDE = re.compile("MLSTACK_.*__")  # settings from the environment; the config has them all


def reproduce(project: Project, wanted: str, tolerance: float) -> Iterator[Record]:
    """Train again in a scratch folder, compare, and remove the folder when all is the same.

    Args:
        project: the project.
        wanted: a run, or what leads to one: a package, an ONNX file, a prediction.
        tolerance: how much a metric may differ where bits cannot be equal, relative to 1 or to
            the metric, whichever is more.

    Raises:
        DataError: the run cannot be made again: no commit, data in no snapshot or not here.
        StepError: the second training failed.
    """
    layout = Layout(project.root)
    spec = _spec(project, layout, wanted)
    place = layout.state / "reproduce" / spec.id
    what = f"the repetition of {spec.id}"
    with (
        files.lock(place.with_name(f"{spec.id}.lock"), what),
        files.lock(place.with_name(f"{spec.id}.training.lock"), what, wait=True) as orphans,
    ):  # the second is held also by the training that a killed command left and that is ending
        for line in _foreseen(spec):
            yield Working(text=line)
        yield Working(text=f"laying out commit {(spec.code.commit or '')[:7]} in {place}")
        home = scratch.lay_out(layout, spec, place)
        yield Working(text=f"laying out the data {spec.dataset.md5[:8]}")
        scratch.put_data(project, spec, home)
        yield Working(text="training again")
        again = Layout(home).run(_train(home, spec, orphans))
        outcome = compare(layout.run(spec.id), again, tolerance)
        if outcome.same():
            scratch.remove(project.root, place)
        yield outcome


def compare(first: Path, again: Path, tolerance: float) -> Reproduced:
    """Compare two finished runs.

    Raises:
        DataError: one is not finished, or its checkpoint is damaged.
    """
    then, now = read(first / SPEC, RunSpec), read(again / SPEC, RunSpec)
    torn = tensors.compare(first / CHECKPOINTS / BEST, again / CHECKPOINTS / BEST)
    one, two = _metrics(first), _metrics(again)
    pairs = [
        MetricPair(name=name, first=one.get(name), again=two.get(name))
        for name in sorted(one.keys() | two.keys())
    ]
    around = _around(then, now)
    return Reproduced(
        run=first.name,
        again=again.name,
        exact=not around and not then.gpus,
        tolerance=tolerance,
        weights_equal=not torn,
        metrics=pairs,
        differences=[*_inputs(then, now), *around, *_weights(torn), *_unequal(pairs)],
        folder=str(again),
    )


def _spec(project: Project, layout: Layout, wanted: str) -> RunSpec:
    found = ancestry.show(project.root, wanted, lambda: project.config.project.name)
    spec = ancestry.find_spec(layout, found.run)
    if spec.code.commit is None:
        raise DataError(f"run {spec.id} was trained outside git; its code is not known")
    if spec.dataset.dirty:
        raise DataError(
            f"run {spec.id} was trained with --allow-dirty on data that is in no snapshot"
        )
    return spec


def _foreseen(spec: RunSpec) -> list[str]:
    """Say before the training which libraries are others than then."""
    changed = _libraries(spec.environment.packages, environment.describe([]).packages)
    return [f"note: {one.name}: {one.detail}" for one in changed]


def _train(home: Path, spec: RunSpec, held: int) -> str:
    """Run `mlstack train`, which holds a lock too, in the scratch project; give its run's id."""
    settings = {k: v for k, v in os.environ.items() if not _OVERRIDE.match(k)}
    words = ["-m", "mlstack", "train", "--json", "--gpus", str(len(spec.gpus))]
    command = tether.tied(signal.SIGTERM, [sys.executable, *words])
    with subprocess.Popen(
        command, cwd=home, env=settings, stdout=subprocess.PIPE, text=True, pass_fds=[held]
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


def _failure(said: str, code: int, home: Path) -> MlstackError:
    try:
        error = json.loads(said)["error"]
        return StepError(f"training again failed: {error['problem']}", hint=error["hint"])
    except (ValueError, KeyError, TypeError):
        return StepError(f"training again ended with exit code {code}", hint=f"see {home}")


def _inputs(then: RunSpec, now: RunSpec) -> list[Divergence]:
    """Name what the second run depends on that is not as it was."""
    found = []
    if then.dataset.md5 != now.dataset.md5:
        found.append(_of("data", then.dataset.source, then.dataset.md5, now.dataset.md5))
    if then.code.python_sha256 not in (None, now.code.python_sha256):
        found.append(_of("code", "*.py", then.code.python_sha256, now.code.python_sha256))
    if then.seed != now.seed:
        found.append(_of("seed", "seed", then.seed, now.seed))
    old, new = dict(flatten(then.config)), dict(flatten(now.config))
    return found + [
        _of("config", key, old.get(key), new.get(key))
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]


def _around(then: RunSpec, now: RunSpec) -> list[Divergence]:
    """Name the libraries and the parts of the machine that are not as they were."""
    old, new = then.environment, now.environment
    found = _libraries(
        {"python": old.python, **old.packages}, {"python": new.python, **new.packages}
    )
    for name, a, b in (
        ("platform", old.platform, new.platform),
        ("cores", old.cpu_count, new.cpu_count),
        ("GPUs", _names(old.gpus), _names(new.gpus)),
        ("ranks", then.ranks, now.ranks),
    ):
        if a != b:
            found.append(_of("machine", name, a, b))
    return found


def _names(gpus: list[str]) -> str:
    return ", ".join(gpu.partition(" (")[0] for gpu in gpus) or "none"


def _libraries(then: dict[str, str], now: dict[str, str]) -> list[Divergence]:
    return [
        _of("library", name, then.get(name), now.get(name))
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    ]


def _weights(torn: list[tensors.Difference]) -> list[Divergence]:
    """Name the tensors that differ, the farthest first."""
    ordered = sorted(torn, key=lambda one: -(one.distance or float("inf")))
    found = [
        Divergence(
            of="tensor",
            name=one.name,
            detail=one.problem
            if one.distance is None
            else f"{one.count} of {one.size} numbers differ, by up to {one.distance:.3g}",
        )
        for one in ordered[:NAMED]
    ]
    if len(ordered) > NAMED:
        found.append(Divergence(of="tensor", name=f"{len(ordered) - NAMED} more", detail="differ"))
    return found


def _unequal(pairs: list[MetricPair]) -> list[Divergence]:
    return [
        _of("metric", one.name, one.first, one.again) for one in pairs if one.first != one.again
    ]


def _of(kind: str, name: str, then: object, now: object) -> Divergence:
    return Divergence(of=kind, name=name, detail=f"{_said(then)} then, {_said(now)} now")


def _said(value: object) -> str:
    return "none" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _metrics(run: Path) -> dict[str, float]:
    for event in reversed(read_events(run)):
        if isinstance(event, Finished):
            return event.metrics
    raise DataError(f"run {run.name} is not finished", hint="type `mlstack train --resume`")
