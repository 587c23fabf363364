"""Runs as a person reads them."""

import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

from rich.console import Group
from rich.table import Table

from mlstack.launch.mirrors import Behind
from mlstack.launch.waiting import Waiting
from mlstack.plurals import plural
from mlstack.printable import printable
from mlstack.records.base import Record, Result
from mlstack.records.evaluation import Evaluation
from mlstack.records.job import JobSeen
from mlstack.records.mirror import Mirrored
from mlstack.records.run import Checked, EpochEnded, Reading, RunSpec, Started, Stepped
from mlstack.records.worker import WorkerProgress
from mlstack.train.chart import size
from mlstack.train.results import (
    CheckPassed,
    Copied,
    Difference,
    Evaluated,
    Planned,
    RunList,
    RunRow,
    RunsCompared,
    RunShown,
    Trained,
    Unlisted,
    Use,
)
from mlstack.ui import Bar, Line

BLOCKS = "▁▂▃▄▅▆▇█"
PLAIN_BLOCKS = "_.-=+*#@"
MANY = 3  # runs from which each has a row of its own
ABREAST = 4  # numbers of many runs: names of metrics are not broken on 80 columns


def draw(record: Record) -> Any:
    """Turn a record of `train` into what is shown; None shows nothing."""
    match record:
        case Planned():
            return _planned(record)
        case Started():
            return _started(record)
        case Stepped() | WorkerProgress() | Reading():
            return _bar(record)
        case EpochEnded():
            return _epoch(record)
        case JobSeen() | Waiting():
            return _job(record) if isinstance(record, JobSeen) else record.words()
        case Checked():
            return _checked(record)
        case Unlisted():
            return f"warning: the run is not in the list of all runs yet: {record.problem}"
        case Behind():
            return record.warning()
        case Result():
            return _result(record)
    return None


def _bar(progress: Stepped | WorkerProgress | Reading) -> Bar:
    if isinstance(progress, Stepped):
        return Bar(_stepped(progress), progress.batch, progress.batches)
    return Bar(progress.text, progress.done, progress.total)


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
        case Copied():
            return _copied(result)
    return None


def _planned(planned: Planned) -> str:
    verb = "goes on" if planned.resumed else "begins"
    parts = ", ".join(f"{count} {part}" for part, count in planned.examples.items())
    where = ", ".join(planned.gpus) or ("CPU" if planned.ranks == 1 else f"{planned.ranks} ranks")
    lines = [f"run {planned.run} {verb}: data {planned.dataset} ({parts}) on {where}"]
    return "\n".join(lines + [f"note: {note}" for note in planned.notes])


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


def _epoch(epoch: EpochEnded) -> Line:
    judged = {name: value for name, value in epoch.metrics.items() if not name.startswith("train/")}
    return Line(_told(epoch, epoch.metrics), _told(epoch, judged or epoch.metrics))


def _told(epoch: EpochEnded, metrics: dict[str, float]) -> str:
    width = len(str(epoch.epochs))
    best = "  best" if epoch.best else ""
    numbers = _numbers(metrics)
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
        table.add_row(f"class {printable(one.name)}", str(one.examples), *figures)
    for part in found.slices:
        name, accuracy = printable(f"{part.column} {part.value}"), f"acc {part.acc:.4f}"
        table.add_row(name, str(part.examples), "", accuracy, "")
    notes = "".join(f"\nnote: {note}" for note in found.notes)
    return Group(title, table, f"written to {file}{notes}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _runs(rows: list[RunRow]) -> Any:
    if not rows:
        return "no runs yet; type `mlstack train`"
    watched = {row.monitor for row in rows if row.value is not None}
    title = watched.pop() if len(watched) == 1 else "metric"
    table = _table("run", "state", "epochs", title, "data", "from")
    for row in rows:
        name = f"{row.monitor} " if title == "metric" else ""
        table.add_row(
            row.id,
            row.state,
            f"{row.epoch}/{row.epochs}" if row.epochs else "none",
            "" if row.value is None else f"{name}{row.value:.4f}",
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
    often = shown.attempts > 1 or (shown.attempts and summary.state == "queued")
    again = f", begun {_count(shown.attempts, 'time')}" if often else ""
    epochs = (
        f"{summary.epoch} of {_count(summary.epochs, 'epoch')}" if summary.epochs else "no epoch"
    )
    grid.add_row("state", f"{state}, {epochs}{again}")
    if shown.next:
        word = "goes on" if summary.state in ("stopped", "failed") else "follow it"
        grid.add_row(word, shown.next)
    for checkpoint in shown.checkpoints:
        grid.add_row("checkpoint", checkpoint)
    for name, value in [*_curves(shown), *_used(shown.use)]:
        grid.add_row(name, value)
    for mirror in shown.mirrors:
        grid.add_row("mirror", _mirrored(mirror))
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


def _copied(copied: Copied) -> str:
    count = _count(len(copied.runs), "run")
    head = f"{count} copied" if copied.runs else "the mirrors have every run already"
    return "\n".join([head, *(f"{one.run}  {_mirrored(one)}" for one in copied.mirrors)])


def _mirrored(state: Mirrored) -> str:
    """Say where a mirror has the run, or why it has not all of it."""
    if state.problem:
        return f"{state.mirror} is behind: {state.problem}"
    return f"{state.mirror}: {state.where}"


def _used(use: Use) -> Iterator[tuple[str, str]]:
    """Give what the run made of the machine, as far as somebody looked."""
    if use.examples_per_s is not None:
        wait = "" if use.loader_wait is None else f", {use.loader_wait:.1%} waiting for the loader"
        yield "speed", f"{use.examples_per_s:,.0f} examples/s{wait}"
    if use.cpu_cores is not None:
        yield "CPU", f"{use.cpu_cores:.2f} cores on average"
    if use.memory_bytes is not None and use.free_bytes is not None:
        left = f"{size(use.free_bytes)} were left at least"
        yield "memory", f"{size(use.memory_bytes)} at most, {left}"
    for gpu in use.gpus:
        yield (
            f"GPU {gpu.index}",
            f"{gpu.busy:.0%} busy on average, {size(gpu.memory_bytes)} at most",
        )
    if use.energy is not None:
        yield "energy", "; ".join(use.energy.told())
    if use.torch_bytes is not None:
        yield "GPU memory", f"{size(use.torch_bytes)} held by torch at most"


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
    """Line the runs up: a column each, or a row each when they are many."""
    names = [run.spec.id for run in found.runs]
    lines = [("state", [run.summary.state for run in found.runs])]
    lines += [(one.name, _values(one)) for one in found.metrics]
    settings = [(one.name, _values(one)) for one in found.settings]
    uses = [dict(_used_short(run.use)) for run in found.runs]
    use = [
        (name, [one.get(name, "-") for one in uses])
        for name in dict.fromkeys(name for one in uses for name in one)
    ]
    origin = [("data", ["", *found.data]), ("code", ["", *found.code])]
    page = [f"page: {found.html}"] if found.html else []
    if len(names) <= MANY:
        return Group(_columns(names, [*lines, *settings, *use, *origin]), *page)
    tables = [_rows(names, lines[n : n + ABREAST]) for n in range(0, len(lines), ABREAST)]
    tables += [_by_value(names, settings)] if settings else []
    tables += [_rows(names, use)] if use else []
    return Group(*_spaced(tables), *(f"{name}: {_said_once(v[1:])}" for name, v in origin), *page)


def _columns(names: list[str], lines: list[tuple[str, list[str]]]) -> Table:
    table = _table("", *names)
    for name, values in lines:
        table.add_row(name, *values)
    return table


def _rows(names: list[str], lines: list[tuple[str, list[str]]]) -> Table:
    table = _table("run", *(name for name, _ in lines))
    for number, name in enumerate(names):
        table.add_row(name, *(values[number] for _, values in lines))
    return table


def _by_value(names: list[str], lines: list[tuple[str, list[str]]]) -> Table:
    """Say which runs have which value of a setting; the most common one is that of the others."""
    table = _table("setting", "value", "runs")
    for name, values in lines:
        counts = Counter(values)
        ((common, times),) = counts.most_common(1)
        rest = common if times > 1 else None
        for number, value in enumerate(sorted(counts, key=lambda one: one == rest)):  # is last
            runs = ", ".join(r for r, own in zip(names, values, strict=True) if own == value)
            told = f"the other {times}" if value == rest else runs
            table.add_row("" if number else name, value, told)
    return table


def _spaced(tables: list[Table]) -> Iterator[Table | str]:
    for table in tables:
        yield table
        yield ""


def _said_once(values: list[str]) -> str:
    """Write what is said of many runs, each thing once."""
    counts = Counter(values)
    return "; ".join(
        f"{value} ({counts[value]} {plural(counts[value], 'run')})" for value in counts
    )


def _used_short(use: Use) -> Iterator[tuple[str, str]]:
    if use.examples_per_s is not None:
        yield "examples/s", f"{use.examples_per_s:,.0f}"
    if use.loader_wait is not None:
        yield "loader wait", f"{use.loader_wait:.1%}"
    if use.cpu_cores is not None:
        yield "CPU cores", f"{use.cpu_cores:.2f}"
    if use.memory_bytes is not None:
        yield "memory", size(use.memory_bytes)
    if use.gpus:
        yield "GPUs busy", ", ".join(f"{gpu.busy:.0%}" for gpu in use.gpus)


def _values(difference: Difference) -> list[str]:
    return ["-" if value is None else value for value in difference.values]


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=number == 0)
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
