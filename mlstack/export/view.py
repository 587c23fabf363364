"""What a person reads of an export: the gates, the size, the speed, and what to type next."""

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mlstack.export.api import Exported, Verified, Weighed
from mlstack.export.gates import Judged
from mlstack.export.pushed import Pushed
from mlstack.export.trial import Stage
from mlstack.plurals import counted, plural
from mlstack.records.base import Record
from mlstack.records.edge import EdgeModel
from mlstack.records.package import GateResult
from mlstack.records.variants import Variant
from mlstack.records.worker import WorkerProgress
from mlstack.ui import Bar


def draw(record: Record) -> RenderableType | Bar | None:
    """Draw one record."""
    match record:
        case Stage(text=text):
            return text
        case WorkerProgress(text=text, done=done, total=total):
            return Bar(text, done, total)
        case Judged(gates=gates):
            # Green gates come with the result.
            return None if all(g.passed for g in gates) else _gates(gates)
        case Weighed(variants=variants, gates=gates):
            if any(v.chosen for v in variants):
                return None
            return Group(_variants(variants), _gates(gates))
        case Exported():
            return _exported(record)
        case Verified():
            return (
                f"{record.path} is whole: {record.model} {record.number} of run {record.run}\n"
                f"{counted(record.files, 'file matches', 'files match')} the manifest; "
                f"{record.examples} golden {plural(record.examples, 'example is', 'examples are')} "
                f"answered as expected (largest difference {record.max_diff:.1e}, "
                f"allowed {record.tolerance:g})"
                + f"\ncontent {record.content_sha256}"
                + "".join(f"\nand so does {name}" for name in record.formats)
                + (f"\nsigned by {record.signed_by}" if record.signed_by else "")
            )
        case Pushed():
            return (
                f"{record.reference} is {record.path}: {counted(record.files, 'file')}, "
                f"{_size(record.size_bytes)}; {record.sent} had to be sent\n"
                f"pull these very bytes: oras pull {record.headline()}"
            )
    return None


def _exported(record: Exported) -> RenderableType:
    latency = record.latency_ms
    following = "" if record.live is None else f" promote {record.number}"
    return Group(
        _gates(record.gates),
        *([_variants(record.variants)] if len(record.variants) > 1 else []),
        *([_edge(record.edge)] if record.edge else []),
        Text(
            f"package  {record.path}\n"
            f"model    {record.model} {record.number}, {record.precision}, "
            f"{_size(record.size_bytes)}, one call p50 {latency['p50']:.3g} ms, "
            f"p99 {latency['p99']:.3g} ms\n"
            f"page     {record.page}\n"
            f"next     mlstack serve{following}"
        ),
    )


def _edge(models: list[EdgeModel]) -> RenderableType:
    """Draw the other formats of the model, and below them what ran each."""
    table = _measured("format")
    for one in models:
        name = f"{one.format} {one.precision}"
        _add(table, Text(name), one.measured or Variant(precision=name), one.size_bytes)
    notes = [
        Text(
            f"  {one.format} {one.precision}: {one.why or one.runtime}",
            style="yellow" * bool(one.why),
        )
        for one in models
    ]
    return Group(table, *notes, Text(""))


def _variants(variants: list[Variant]) -> RenderableType:
    """Draw what was measured, and below it why each was packed or not."""
    table = _measured("variant")
    for row in variants:
        if row.size_bytes is not None:
            _add(table, Text(row.precision, style="bold" * row.chosen), row, row.size_bytes)
    reasons = [
        Text(
            f"{'*' if row.chosen else ' '} {row.precision}: {row.why}",
            style="green" if row.chosen else "red" if row.red else "",
        )
        for row in variants
    ]
    return Group(table, *reasons, Text(""))


def _measured(first: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column(first, no_wrap=True)
    for name in ("size", "1 row", "8 rows", "32 rows", "accuracy", "agrees", "change"):
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _add(table: Table, name: Text, row: Variant, size_bytes: int) -> None:
    accuracy = row.metrics.get("test/acc", row.metrics.get("val/acc"))
    table.add_row(
        name,
        _size(size_bytes),
        *(_ms(row.p50_ms(batch)) for batch in (1, 8, 32)),
        "-" if accuracy is None else f"{accuracy:.2%}",
        "-" if row.agreement is None else f"{row.agreement:.2%}",
        "-" if row.max_probability_diff is None else f"{row.max_probability_diff:.2g}",
    )


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g} ms"


def _gates(gates: list[GateResult]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("gate", no_wrap=True)
    table.add_column("measured", justify="right", no_wrap=True)
    table.add_column("limit", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("", overflow="fold")
    for gate in gates:
        verdict = Text("ok", style="green") if gate.passed else Text("RED", style="bold red")
        table.add_row(
            Text(gate.name), _number(gate.measured), _number(gate.limit), verdict, Text(gate.detail)
        )
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _size(size_bytes: int) -> str:
    if size_bytes < 1_000_000:
        return f"{size_bytes / 1000:.1f} kB"
    return f"{size_bytes / 1_000_000:.1f} MB"
