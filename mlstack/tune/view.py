"""Studies as a person reads them."""

from typing import Any

from rich.console import Group
from rich.table import Table

from mlstack.launch.mirrors import Behind
from mlstack.launch.waiting import Waiting
from mlstack.plurals import counted
from mlstack.records.base import Record
from mlstack.records.worker import WorkerProgress
from mlstack.tune.results import (
    StudyStarted,
    TrialEnded,
    TrialMoved,
    TrialRow,
    TrialStarted,
    Tuned,
)
from mlstack.ui import Bar


def draw(record: Record) -> Any:
    """Turn a record of `tune` into what is shown; None shows nothing."""
    match record:
        case StudyStarted():
            return _study(record)
        case TrialMoved():
            return Bar("trials", record.done, record.trials)
        case TrialEnded():
            return _ended(record)
        case WorkerProgress():
            return Bar(record.text, record.done, record.total)
        case Waiting():
            return record.words()
        case Behind():
            return record.warning()
        case Tuned():
            return _tuned(record)
        case TrialStarted():
            return None
    return None


def _study(study: StudyStarted) -> str:
    where = ", ".join(study.gpus) or "CPU"
    at_once = f", {study.parallel} at a time" if study.parallel > 1 else ""
    done = f", {study.done} of them done" if study.done else ""
    lines = [
        f"study {study.study}: {counted(study.trials, 'trial')}{done}, {study.sampler} sampler, "
        f"{study.pruner} pruner, {study.mode} {study.monitor} on {where}{at_once}"
    ]
    return "\n".join(lines + [f"note: {note}" for note in study.notes])


def _ended(ended: TrialEnded) -> str:
    trial = ended.trial
    width = len(str(ended.trials - 1))
    what = "" if trial.value is None else f"  {trial.value:.4f}"
    best = "  best" if ended.best else ""
    problem = f"  {trial.problem}" if trial.problem else ""
    return (
        f"trial {trial.number:>{width}}  {trial.state:<8}{what}{best}  {_settings(trial)}{problem}"
    )


def _tuned(study: Tuned) -> Any:
    over = sum(t.state in ("finished", "pruned", "failed") for t in study.trials)
    counts = [f"{over} of {counted(study.wanted, 'trial')}"]
    for state in ("pruned", "failed", "interrupted"):
        count = sum(t.state == state for t in study.trials)
        counts += [f"{count} {state}"] if count else []
    lines = [f"study {study.study} {study.state}: {', '.join(counts)}"]
    if study.best is not None:
        best = study.best
        lines += [
            f"best: trial {best.number}, {study.monitor} {best.value:.4f}, run {best.run}",
            *(f"  {key}: {_value(value)}" for key, value in best.parameters.items()),
        ]
    if study.importance:
        shares = ", ".join(f"{key} {share:.0%}" for key, share in study.importance.items())
        lines.append(f"what matters: {shares}")
    if study.best is not None:
        lines += [f"next: mlstack export {study.best.run}", f"  or: {study.next}"]
    if study.html:
        lines.append(f"page: {study.html}")
    return Group(_table(study), "\n".join(lines)) if study.trials else "\n".join(lines)


def _table(study: Tuned) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    keys = list(dict.fromkeys(key for trial in study.trials for key in trial.parameters))
    table.add_column("trial", justify="right")
    table.add_column("state")
    table.add_column(study.monitor, justify="right")
    table.add_column("epochs", justify="right")
    for key in keys:
        table.add_column(key.removeprefix("model.args.").removeprefix("train."), justify="right")
    table.add_column("run", no_wrap=True)
    for trial in study.trials:
        is_best = study.best is not None and trial.number == study.best.number
        table.add_row(
            str(trial.number),
            "best" if is_best else trial.state,
            "" if trial.value is None else f"{trial.value:.4f}",
            str(trial.epochs or ""),
            *(_value(trial.parameters.get(key, "")) for key in keys),
            trial.run or trial.problem,
        )
    return table


def _settings(trial: TrialRow) -> str:
    return "  ".join(
        f"{key.rsplit('.', 1)[-1]}={_value(value)}" for key, value in trial.parameters.items()
    )


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
