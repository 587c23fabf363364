"""The page of an export: every variant side by side, and the rows that a smaller one changed."""

import base64
import io
from dataclasses import dataclass
from html import escape
from importlib.resources import files as package_files

import msgspec

from mlstack import packed
from mlstack.errors import DataError
from mlstack.export.edge import Edges
from mlstack.export.handover import Changed
from mlstack.export.trial import Field, Tried
from mlstack.inputs import images
from mlstack.records.package import GateResult
from mlstack.records.run import RunSpec
from mlstack.records.variants import Times, Variant, Variants

PICTURE_PX = 160
HEAD = ("variant", "size", "1 row, ms", "8 rows", "32 rows", "accuracy", "agrees", "max change", "")
GATE_HEAD = (
    "<th>gate</th><th class=number>measured</th><th class=number>limit</th><th></th>"
    '<th class="why"></th>'
)


@dataclass(frozen=True)
class Seen:
    """All that the page is about."""

    field: Field
    weighed: Variants
    edges: Edges


def render(spec: RunSpec, model: str, seen: Seen) -> str:
    """Make the page: one file, nothing else is loaded."""
    field, weighed = seen.field, seen.weighed
    style = package_files("mlstack.export").joinpath("report.css").read_text("utf-8")
    title = f"{model}: export of run {spec.id}"
    body = "".join(
        [
            f"<h1>{escape(title)}</h1>{_summary(weighed)}",
            "<h2>Variants</h2>",
            _variants(weighed),
            _edge(seen.edges, weighed),
            *(_changes(one) for one in field.tried[1:] if one.figures),
            "<h2>Gates</h2>",
            *(_gates(one, _is_chosen(one, weighed)) for one in field.tried if one.gates),
            *(_gates(one.tried, False, one.name) for one in seen.edges.made if one.tried.gates),
        ]
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body>{body}</body></html>\n"
    )


def _summary(weighed: Variants) -> str:
    chosen = next((v for v in weighed.variants if v.chosen), None)
    budget = f", budget {escape(weighed.budget)}" if weighed.budget else ""
    where = (
        f"{escape(weighed.runtime)}, {escape(weighed.processor)}, {weighed.threads} threads; "
        f"for {escape(weighed.target)}{budget}"
    )
    if chosen is None:
        return f'<p class="bad">Nothing was packed.</p><p class="soft">{where}</p>'
    return (
        f'<p><b class="good">{escape(chosen.precision)}</b> is {escape(chosen.why)}.</p>'
        f'<p class="soft">{where}</p>'
    )


def _variants(weighed: Variants) -> str:
    first = weighed.variants[0]
    rows = [_variant(row, first) for row in weighed.variants]
    if weighed.training_code:
        rows.append(_training(weighed.training_code))
    return (
        f"{_table(rows)}"
        "<p><small>Times are medians, with the 95th percentile below. Agreement and the largest "
        "change of a probability are against the training code, on the validation part.</small></p>"
    )


def _table(rows: list[str]) -> str:
    numbers = range(1, len(HEAD) - 1)
    head = "".join(
        f"<th{' class=number' * (i in numbers)}>{escape(name)}</th>" for i, name in enumerate(HEAD)
    )
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _edge(edges: Edges, weighed: Variants) -> str:
    """Show the other formats, and the ONNX graphs as they were timed in the same turns."""
    if not edges.made:
        return ""
    rows = [
        msgspec.structs.replace(
            row, precision=f"onnx {row.precision}", times=times, why=weighed.runtime
        )
        for precision, times in edges.record.onnx.items()
        for row in weighed.variants
        if row.precision == precision
    ]
    for one in edges.record.models:
        name = f"{one.format} {one.precision}"
        why = one.why or f"{one.runtime}; {one.lost} lost, {one.gained} gained of {one.examples}"
        rows.append(
            msgspec.structs.replace(
                one.measured or Variant(precision=name),
                precision=name,
                size_bytes=one.size_bytes,
                why=why,
            )
        )
    return (
        "<h2>Other formats</h2>"
        f"{_table([_variant(row, rows[0]) for row in rows])}"
        "<p><small>All were timed in the same turns. Lost and gained are rows that are right in "
        "one and wrong in the other: ONNX in fp32, and this.</small></p>"
    )


def _variant(row: Variant, first: Variant) -> str:
    name = f"<th>{escape(row.precision)}</th>"
    if row.size_bytes is None:
        return f'<tr class="soft">{name}<td class="why" colspan="8">{escape(row.why)}</td></tr>'
    size = row.size_bytes / (first.size_bytes or row.size_bytes)
    cells = [
        _number(f"{row.size_bytes / 1e6:.3g} MB", f"{size:.2f}x", size),
        *(_time(row.times, batch, first.times) for batch in (1, 8, 32)),
        _number(_accuracy(row), _points(row.drop_points)),
        _number("" if row.agreement is None else f"{row.agreement:.2%}"),
        _number("" if row.max_probability_diff is None else f"{row.max_probability_diff:.2g}"),
    ]
    kind = ' class="chosen"' if row.chosen else ""
    return f"<tr{kind}>{name}{''.join(cells)}{_why(row.why, ' bad' if row.red else '')}</tr>"


def _training(times: list[Times]) -> str:
    cells = "".join(_time(times, batch, []) for batch in (1, 8, 32))
    return (
        f'<tr class="soft"><th>training code</th><td></td>{cells}'
        f'<td colspan="3"></td>{_why("torch, without gradients")}</tr>'
    )


def _time(times: list[Times], batch: int, first: list[Times]) -> str:
    found = next((t for t in times if t.batch == batch), None)
    if found is None:
        return "<td></td>"
    base = next((t.p50_ms for t in first if t.batch == batch), None)
    share = None if not base else found.p50_ms / base
    return _number(f"{found.p50_ms:.3g}", f"p95 {found.p95_ms:.3g}", share)


def _number(text: str, small: str = "", share: float | None = None) -> str:
    below = f"<small>{escape(small)}</small>" if small else ""
    bar = ""
    if share is not None:
        bar = f'<div class="bar"><i style="width:{min(100, round(100 * share))}%"></i></div>'
    return f'<td class="number">{escape(text)}{below}{bar}</td>'


def _accuracy(row: Variant) -> str:
    found = row.metrics.get("test/acc", row.metrics.get("val/acc"))
    return "" if found is None else f"{found:.2%}"


def _points(drop: float | None) -> str:
    return f"{-drop:+.2f} pt" if drop else ""


def _changes(one: Tried) -> str:
    assert one.figures is not None
    changed = one.figures.changed
    flipped = [c for c in changed if c.is_flipped]
    whole = next((p for p in one.figures.pairs if not p.column), None)
    total = whole.examples if whole else len(changed)
    if flipped:
        lead = (
            f"{escape(one.precision)} gives these rows another class than fp32; "
            f"{whole.lost if whole else 0} were right before, {whole.gained if whole else 0} are "
            f"right now, of {total} rows."
        )
    else:
        lead = f"None of {total} rows changed its class; these changed most."
    cards = "".join(_card(c) for c in (flipped or changed))
    if one.figures.loss_change is not None:
        low, high = one.figures.loss_change
        lead += f" The mean loss of a row moved by {low:+.2g} to {high:+.2g} (95 %, bootstrap)."
    title = f"<h2>Rows that {escape(one.precision)} changed</h2>"
    return f'{title}<p>{lead}</p><div class="rows">{cards}</div>'


def _card(change: Changed) -> str:
    tone = "good" if change.after == change.label else "bad"
    facts = (
        f"<dt>label</dt><dd>{escape(change.label)}</dd><span></span>"
        f"<dt>fp32</dt><dd>{escape(change.before)}</dd><span>{change.before_probability:.3f}</span>"
        f'<dt>now</dt><dd class="{tone}">{escape(change.after)}</dd>'
        f"<span>{change.after_probability:.3f}</span>"
    )
    return f'<div class="row">{_picture(change)}<dl>{facts}</dl></div>'


def _picture(change: Changed) -> str:
    """Show the raw input: the image itself, or the row of the table."""
    if change.row is not None:
        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{escape(str(value))}</td></tr>"
            for name, value in change.row.items()
        )
        return f"<table>{rows}</table>"
    if not change.path:
        return ""
    try:
        picture = images.thumbnail(packed.read(change.path), PICTURE_PX)
    except (OSError, DataError):
        return f"<p><small>{escape(change.path)}</small></p>"
    content = io.BytesIO()
    picture.save(content, "PNG")
    data = base64.b64encode(content.getvalue()).decode()
    return f'<img alt="{escape(change.label)}" src="data:image/png;base64,{data}">'


def _is_chosen(one: Tried, weighed: Variants) -> bool:
    return any(v.precision == one.precision and v.chosen for v in weighed.variants)


def _gates(one: Tried, is_open: bool, name: str = "") -> str:
    rows = "".join(_gate(gate) for gate in one.gates)
    red = sum(not gate.passed for gate in one.gates)
    state = f"{red} red" if red else "all green"
    title = f"{escape(name or one.precision)}: {len(one.gates)} gates, {state}"
    return (
        f"<details{' open' * (is_open or bool(red))}><summary>{title}"
        f'</summary><div class="wide"><table class="gates"><thead><tr>{GATE_HEAD}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></details>"
    )


def _gate(gate: GateResult) -> str:
    verdict = '<td class="good">ok</td>' if gate.passed else '<td class="bad">red</td>'
    cells = "".join(_number("" if v is None else f"{v:.4g}") for v in (gate.measured, gate.limit))
    return f"<tr><th>{escape(gate.name)}</th>{cells}{verdict}{_why(gate.detail)}</tr>"


def _why(text: str, tone: str = "") -> str:
    """Give the last cell of a row: on a narrow screen it is a line of its own."""
    return f'<td class="why{tone}">{escape(text)}</td>' if text else '<td class="why"></td>'
