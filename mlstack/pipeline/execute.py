"""Run one stage as the commands a person would type, and find what it made."""

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from mlstack import errors, files
from mlstack.config import Project
from mlstack.errors import DataError, Interrupted, MlstackError, StepError
from mlstack.launch import tether
from mlstack.pipeline.fresh import dependencies
from mlstack.pipeline.stages import EXPORT, LABELS, TRAIN, Stage, config_slice, digest
from mlstack.records import dataset
from mlstack.records.base import read, write
from mlstack.records.layout import Layout
from mlstack.records.package import numbers
from mlstack.records.run import CHECKPOINTS, LAST, SPEC, RunSpec, run_ids, summarise
from mlstack.records.stage import StageBegun, StageState


@dataclass(frozen=True)
class Manner:
    """How commands are called: options for each of them, and whether they may talk."""

    options: tuple[str, ...] = ()
    is_silent: bool = False


def execute(project: Project, stage: Stage, manner: Manner) -> str:
    """Run a stage, or go on with one that was killed; write its state and give what it made.

    Raises:
        MlstackError: a command failed; its exit code is passed on.
    """
    layout = Layout(project.root)
    begun_path = layout.stages / f"{stage.name}.begun.json"
    settings = digest(config_slice(stage, project.config))
    inputs = digest([dependencies(project.root, stage), settings])
    begun = _begin(layout, begun_path, stage, inputs)
    unfinished = _unfinished(layout, stage, begun, settings) if stage.name == TRAIN else None
    if unfinished is None:
        for words in stage.commands:
            _call(project.root, _filled(layout, words), manner)
    elif summarise(layout.run(unfinished)).state != "finished":
        _call(project.root, ("train", "--resume", unfinished), manner)
    result = _made(project, stage, begun)
    state = StageState(stage=stage.name, result=result, config_sha256=settings)
    write(project.root / stage.out, state)
    begun_path.unlink(missing_ok=True)
    return result


def result_of(root: Path, stage: Stage) -> str:
    """Give what a stage made last."""
    return read(root / stage.out, StageState).result


def _begin(layout: Layout, path: Path, stage: Stage, inputs: str) -> StageBegun:
    """Note that a stage begins; a note of the same stage with the same inputs stays."""
    if path.is_file():
        before = read(path, StageBegun)
        if before.inputs_sha256 == inputs:
            return before
    last = max(run_ids(layout.runs), default="")
    begun = StageBegun(stage=stage.name, inputs_sha256=inputs, last_run=last)
    write(path, begun)
    return begun


def _unfinished(layout: Layout, stage: Stage, begun: StageBegun, settings: str) -> str | None:
    """Find the run of a killed `train` stage that can be taken or resumed."""
    for run in reversed(_runs_since(layout, begun)):
        spec = read(layout.run(run) / SPEC, RunSpec)
        if digest(config_slice(stage, spec.config)) != settings:
            continue
        state = summarise(layout.run(run)).state
        has_checkpoint = (layout.run(run) / CHECKPOINTS / LAST).is_file()
        if state == "finished" or (state in ("running", "stopped") and has_checkpoint):
            return run
    return None


def _made(project: Project, stage: Stage, begun: StageBegun) -> str:
    layout = Layout(project.root)
    if stage.name == LABELS:
        return files.md5(project.root / project.config.data.folder / dataset.LABELS)
    if stage.name == EXPORT:
        name = project.config.project.name
        if not (present := numbers(layout.model(name))):
            raise StepError(f"`mlstack export` left no package in models/{name}")
        return f"{name}/{present[-1]}"
    for run in reversed(_runs_since(layout, begun)):
        if summarise(layout.run(run)).state == "finished":
            return run
    raise StepError("`mlstack train` left no finished run", hint="type `mlstack train ls`")


def _runs_since(layout: Layout, begun: StageBegun) -> list[str]:
    """List the runs that began after the stage did; trials and checks are none of them."""
    found = []
    for run in run_ids(layout.runs):
        if run > begun.last_run:
            spec = read(layout.run(run) / SPEC, RunSpec)
            if spec.study is None and spec.mode == "fit":
                found.append(run)
    return found


def _filled(layout: Layout, words: tuple[str, ...]) -> tuple[str, ...]:
    if "{run}" not in words:
        return words
    run = read(layout.stages / f"{TRAIN}.json", StageState).result
    if not layout.run(run).is_dir():
        raise DataError(f"run {run} of the stage `train` is gone", hint="type `mlstack run train`")
    return tuple(run if word == "{run}" else word for word in words)


def _call(root: Path, words: tuple[str, ...], manner: Manner) -> None:
    """Run `mlstack WORDS`; what it prints goes to stderr, its failure becomes ours.

    It leads a session of its own: Ctrl-C reaches us alone, and we ask it to stop, once.
    """
    command = [sys.executable, "-m", "mlstack", *words, *manner.options]
    if manner.is_silent:
        command.append("--json")
    target = subprocess.PIPE if manner.is_silent else sys.stderr
    tied = tether.tied(signal.SIGTERM, command)
    with subprocess.Popen(
        tied, cwd=root, stdout=target, text=True, start_new_session=True
    ) as process:
        try:
            said, _ = process.communicate()
        except BaseException:
            _end(process)
            raise
    if process.returncode:
        raise _failure(words, process.returncode, said or "")


def _end(process: "subprocess.Popen[str]") -> None:
    """Let a command save what it has; who is asked to stop meanwhile asks it again."""
    process.terminate()
    try:
        process.communicate()
    except (KeyboardInterrupt, Interrupted):
        process.terminate()
        process.communicate()


def _failure(words: tuple[str, ...], code: int, said: str) -> MlstackError:
    problem = f"`mlstack {' '.join(words)}` ended with exit code {code}"
    hint = "mend what it says, then type `mlstack run` again"
    try:
        told = json.loads(said)["error"]
        problem, hint = f"{problem}: {told['problem']}", told["hint"] or hint
    except (ValueError, KeyError, TypeError):
        pass
    if code in _STOPPED:
        return Interrupted(problem, hint="type `mlstack run` again", exit_code=_STOPPED[code])
    return _BY_CODE.get(code, StepError)(problem, hint=hint)


_STOPPED = {130: 130, -2: 130, 143: 143, -15: 143}
_BY_CODE: dict[int, type[MlstackError]] = {
    kind.exit_code: kind
    for kind in (
        errors.StepError,
        errors.ConfigError,
        errors.DataError,
        errors.GateError,
        errors.MachineError,
        errors.BusyError,
    )
}
