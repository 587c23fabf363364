"""Runs as a person reads them."""

import sys
from collections.abc import Iterator
from typing import Any

from rich.console import Group
from rich.table import Table

from mlstack.records.base import Record, Result
from mlstack.records.evaluation import Evaluation
from mlstack.records.job import JobSeen
from mlstack.records.run import Checked, EpochEnded, Reading, RunSpec, Started, Stepped
from mlstack.records.worker import WorkerProgress
from mlstack.train.results import (
    CheckPassed,
    Difference,
    Evaluated,
    Planned,
    RunList,
    RunRow,
    RunsCompared,
    RunShown,
    Trained,
    Unlisted,
    Waiting,
)
from mlstack.ui import Bar

BLOCKS = "▁▂▃▄▅▆▇█"
PLAIN_BLOCKS = "_.-=+*#@"


def draw(record: Record) -> Any:
    """Turn a record of `train` into what is shown; None shows nothing."""
    match record:
        case Planned():
            return _planned(record)
        case Started():
            return _started(record)
        case Stepped():
            return Bar(_stepped(record), record.batch, record.batches)
        case WorkerProgress() | Reading():
            return Bar(record.text, record.done, record.total)
        case EpochEnded():
            return _epoch(record)
        case JobSeen() | Waiting():
            return _job(record) if isinstance(record, JobSeen) else _waiting(record)
        case Checked():
            return _checked(record)
        case Unlisted():
            return f"warning: the run is not in the list of all runs yet: {record.problem}"
        case Result():
            return _result(record)
    return None


def _result(result: Result) -> Any:
    match result:
        case Trained():
            return _trained(result)
        case Evaluated():
            return evaluation(result.evaluation, result.file)
        case CheckPassed():
            return f"{result.headline()}\nnext: {result.next}"
        case RunList():
            return _runs(result.runs)
        case RunShown():
            return _shown(result)
        case RunsCompared():
            return _compared(result)
    return None


def _planned(planned: Planned) -> str:
    verb = "goes on" if planned.resumed else "begins"
    parts = ", ".join(f"{count} {part}" for part, count in planned.examples.items())
    where = ", ".join(planned.gpus) or ("CPU" if planned.ranks == 1 else f"{planned.ranks} ranks")
    lines = [f"run {planned.run} {verb}: data {planned.dataset} ({parts}) on {where}"]
    return "\n".join(lines + [f"note: {note}" for note in planned.notes])


def _waiting(waiting: Waiting) -> str:
    lines = [
        f"waiting for GPUs: {waiting.free} of {waiting.count} are free, "
        f"number {waiting.place} in the queue (Ctrl-C leaves it)",
        *(f"  used by {user}" for user in waiting.users),
        *(f"  first comes {waiter}" for waiter in waiting.ahead),
    ]
    return "\n".join(lines)


def _started(started: Started) -> str:
    ranks = f" x {started.ranks}" if started.ranks > 1 else ""
    size = f", {started.parameters:,} parameters" if started.parameters else ""
    step = f", from step {started.step}" if started.step else ""
    return f"started on {started.device}{ranks}{size}{step}"


def _job(seen: JobSeen) -> str:
    where = f" on {seen.nodes}" if seen.nodes else ""
    why = f" ({seen.reason})" if seen.reason else ""
    return f"job {seen.id}: {seen.state.lower()}{where}{why}"


def _stepped(stepped: Stepped) -> str:
    return f"epoch {stepped.epoch}  {_numbers(stepped.metrics)}".rstrip()


def _epoch(epoch: EpochEnded) -> str:
    width = len(str(epoch.epochs))
    best = "  best" if epoch.best else ""
    numbers = _numbers(epoch.metrics)
    return f"epoch {epoch.epoch:>{width}}/{epoch.epochs}  {numbers}  {epoch.seconds:.1f} s{best}"


def _numbers(metrics: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())


def _checked(checked: Checked) -> str:
    mark = "ok    " if checked.passed else "FAILED"
    hint = f"\n       hint: {checked.hint}" if checked.hint and not checked.passed else ""
    return f"{mark} {checked.name}: {checked.detail}{hint}"


def _trained(trained: Trained) -> str:
    width = max((len(name) for name in trained.metrics), default=0)
    epochs = _count(trained.epochs, "epoch")
    lines = [
        f"run {trained.run} finished: {epochs} in {trained.seconds:.1f} s, "
        f"the best was {trained.best_epoch}",
        *(f"  {name:<{width}}  {value:.4f}" for name, value in trained.metrics.items()),
        f"checkpoint: {trained.checkpoint}",
        f"next: {trained.next}",
    ]
    return "\n".join(lines)


def evaluation(found: Evaluation, file: str) -> Any:
    """Show a run's figures: all of them together, then class by class and slice by slice."""
    numbers = "  ".join(f"{name} {value:.4f}" for name, value in found.metrics.items())
    title = f"run {found.run} on its {_count(found.examples, f'{found.part} example')}: {numbers}"
    table = _table("", "examples", "precision", "recall", "f1")
    for one in found.classes:
        figures = (f"{value:.4f}" for value in (one.precision, one.recall, one.f1))
        table.add_row(f"class {one.name}", str(one.examples), *figures)
    for part in found.slices:
        accuracy = f"acc {part.acc:.4f}"
        table.add_row(f"{part.column} {part.value}", str(part.examples), "", accuracy, "")
    notes = "".join(f"\nnote: {note}" for note in found.notes)
    return Group(title, table, f"written to {file}{notes}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _runs(rows: list[RunRow]) -> Any:
    if not rows:
        return "no runs yet; type `mlstack train`"
    table = _table("run", "state", "epochs", rows[0].monitor or "metric", "data", "from")
    for row in rows:
        table.add_row(
            row.id,
            row.state,
            f"{row.epoch}/{row.epochs}",
            "" if row.value is None else f"{row.value:.4f}",
            row.dataset[:8],
            _origin(row),
        )
    return table


def _origin(row: RunRow) -> str:
    if row.host:
        return f"on {row.host}"
    if row.study is not None:
        return f"{row.study} trial {row.trial}"
    return row.parent or ""


def _shown(shown: RunShown) -> Any:
    spec, summary = shown.spec, shown.summary
    grid = Table.grid(padding=(0, 2))
    for name, value in _facts(spec):
        grid.add_row(name, value)
    state = f"{summary.state}: {summary.problem}" if summary.problem else summary.state
    grid.add_row("state", f"{state}, {summary.epoch} of {summary.epochs} epochs")
    for checkpoint in shown.checkpoints:
        grid.add_row("checkpoint", checkpoint)
    for name, value in _curves(shown):
        grid.add_row(name, value)
    if shown.html:
        grid.add_row("page", shown.html)
    return grid


def _curves(shown: RunShown) -> Iterator[tuple[str, str]]:
    """Give each metric: its value in the best epoch, or in the test; its way there."""
    best = next((e for e in reversed(shown.epochs) if e.best), None)
    for name in dict.fromkeys(n for epoch in shown.epochs for n in epoch.metrics):
        values = [e.metrics[name] for e in shown.epochs if name in e.metrics]
        marked = best.metrics.get(name) if best else None
        peak = f"{marked:.4f} in epoch {best.epoch}, " if best and marked is not None else ""
        yield name, f"{peak}{values[-1]:.4f} at the end  {sparkline(values)}"
    for name, value in shown.summary.metrics.items():
        if not any(name in epoch.metrics for epoch in shown.epochs):
            yield name, f"{value:.4f}"


def _facts(spec: RunSpec) -> Iterator[tuple[str, str]]:
    yield "run", spec.id
    yield "created", spec.created
    yield "command", " ".join(spec.command)
    dirty = " (not snapshotted)" if spec.dataset.dirty else ""
    revision = f" at {spec.dataset.revision[:9]}" if spec.dataset.revision else ""
    yield "data", f"{spec.dataset.source} {spec.dataset.md5[:12]}{revision}{dirty}"
    changes = f" with changes ({spec.code.diff_file})" if spec.code.dirty else ""
    yield "code", f"{(spec.code.commit or 'no commit')[:9]}{changes}"
    yield "model", f"{spec.config['model']['class']} {spec.config['model']['args']}"
    yield "seed", str(spec.seed)
    yield "machine", f"{_count(spec.ranks, 'rank')}, GPUs {spec.gpus or 'none'}"
    if spec.parent:
        yield "parent", spec.parent
    if spec.study:
        yield "study", f"{spec.study} trial {spec.trial}"


def _compared(found: RunsCompared) -> Any:
    names = [run.spec.id for run in found.runs]
    table = _table("", *names)
    _add(table, "state", [run.summary.state for run in found.runs])
    for difference in [*found.metrics, *found.settings]:
        _add(table, difference.name, _values(difference))
    pairs = zip(found.data, found.code, strict=True)
    _add(table, "data", ["", *(data for data, _ in pairs)])
    _add(table, "code", ["", *found.code])
    if found.html:
        table.caption = f"page: {found.html}"
    return table


def _values(difference: Difference) -> list[str]:
    return ["-" if value is None else value for value in difference.values]


def _add(table: Table, name: str, values: list[str]) -> None:
    table.add_row(name, *values)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def sparkline(values: list[float]) -> str:
    """Draw values as a row of blocks, lowest to highest; one that is no number is a blank."""
    blocks = BLOCKS if "utf" in (sys.stdout.encoding or "").lower() else PLAIN_BLOCKS
    finite = [v for v in values if abs(v) < float("inf")]
    if len(finite) < 2:
        return ""
    low, span = min(finite), (max(finite) - min(finite)) or 1.0
    return "".join(
        blocks[round((v - low) / span * (len(blocks) - 1))] if abs(v) < float("inf") else " "
        for v in values[-40:]
    )
