"""What was made before from the very same inputs, so that no stage makes it twice.

A run counts when its data, its settings and every Python file of the project are those of now: one
that was trained by hand, that finished just before `mlstack run` was killed, or that was cut short
and can go on. A package counts when it was made since the stage began from the same inputs.
"""

from dataclasses import dataclass

from mlstack.launch import code
from mlstack.launch.at_work import is_at_work
from mlstack.pipeline.fresh import Look
from mlstack.pipeline.stages import Stage, config_slice, digest
from mlstack.records.base import read
from mlstack.records.layout import Layout
from mlstack.records.lineage import Lineage
from mlstack.records.package import MANIFEST, SIDE, numbers
from mlstack.records.run import (
    BEST,
    CHECKPOINTS,
    LAST,
    SPEC,
    Failed,
    RunSpec,
    glance,
    read_events,
    run_ids,
)
from mlstack.records.stage import StageBegun

LOOKED_AT = 200  # newest runs


@dataclass(frozen=True)
class Earlier:
    """A run made from the same inputs."""

    run: str
    is_finished: bool
    is_running: bool  # some process works on it at this moment


def run_of(look: Look, stage: Stage, begun: StageBegun) -> Earlier | None:
    """Find the newest run of the same inputs that is finished, at work, or can go on."""
    layout = Layout(look.project.root)
    same = _Same(look, stage)
    since = begun.last_run if begun.anew or not same.is_told_by_python else ""
    for run in reversed(run_ids(layout.runs)[-LOOKED_AT:]):
        found = _found(layout, run) if run > since else None
        if found and same.as_now(read(layout.run(run) / SPEC, RunSpec)):
            return found
    return None


def made_since(look: Look, stage: Stage, last: str) -> str | None:
    """Find the run that `mlstack train` has just finished; its code may have changed meanwhile."""
    layout, same = Layout(look.project.root), _Same(look, stage)
    for run in reversed(run_ids(layout.runs)):
        if run > last and glance(layout.run(run)).state == "finished":
            spec = read(layout.run(run) / SPEC, RunSpec)
            if same.data_and_settings(spec):
                return run
    return None


def package_of(layout: Layout, name: str, run: str, begun: StageBegun) -> str | None:
    """Find a package of a run that the stage wrote before it was killed."""
    if begun.anew:
        return None
    for number in reversed(numbers(layout.model(name))):
        side = layout.package(name, number) / SIDE
        if number > begun.last_package and (side / MANIFEST).is_file():
            return f"{name}/{number}" if read(side / "lineage.json", Lineage).run == run else None
    return None


class _Same:
    """Whether a run was made from the inputs of now."""

    def __init__(self, look: Look, stage: Stage) -> None:
        self._root = look.project.root
        self._source = look.project.config.data.folder
        self._data = look.md5(self._source)
        self._stage = stage
        self._settings = digest(config_slice(stage, look.project.config))
        self._python = ""

    @property
    def is_told_by_python(self) -> bool:
        """Whether the run's hash of Python files covers all the code that the stage watches."""
        own = [name for name in self._stage.deps if name != self._source]
        return all(name.startswith(".mlstack/") or name.endswith(".py") for name in own)

    def as_now(self, spec: RunSpec) -> bool:
        """Compare everything."""
        if spec.dataset.dirty or not self.data_and_settings(spec):
            return False
        self._python = self._python or code.python_sha256(self._root)
        return spec.code.python_sha256 == self._python

    def data_and_settings(self, spec: RunSpec) -> bool:
        """Compare all but the code."""
        if spec.mode != "fit" or spec.study is not None or spec.dataset.md5 != self._data:
            return False
        return digest(config_slice(self._stage, spec.config)) == self._settings


def _found(layout: Layout, run: str) -> Earlier | None:
    folder = layout.run(run)
    state = glance(folder).state
    kept = folder / CHECKPOINTS
    if state == "finished":
        whole = (kept / BEST).is_file() or (kept / LAST).is_file()
        return Earlier(run, is_finished=True, is_running=False) if whole else None
    if state != "damaged" and is_at_work(folder):
        return Earlier(run, is_finished=False, is_running=True)
    # One that was killed before its first checkpoint goes on from the start, under its own name.
    if state in ("new", "running", "stopped") or (state == "failed" and _was_killed(layout, run)):
        return Earlier(run, is_finished=False, is_running=False)
    return None


def _was_killed(layout: Layout, run: str) -> bool:
    """Tell a rank that the system killed from one whose own error would come again."""
    events = read_events(layout.run(run))
    return bool(events) and isinstance(events[-1], Failed) and "SIGKILL" in events[-1].problem
