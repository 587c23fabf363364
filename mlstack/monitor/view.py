"""What a person sees of monitoring: the verdict and its table, and the live screen."""

import sys
from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text

from mlstack import ui
from mlstack.call import Call
from mlstack.monitor import gradual, keys
from mlstack.monitor.attempt import Attempt
from mlstack.plurals import counted
from mlstack.records.base import Record
from mlstack.records.report import Change, Finding, Probed, Report, Reported, Rows, Service
from mlstack.records.worker import WorkerProgress

BAR = 24
EIGHTHS = " ▏▎▍▌▋▊▉█"
SHOWN_CLASSES = 12
REFRESH_S = 2.0


def draw(record: Record) -> RenderableType | str | ui.Bar | None:
    """Draw one record of `monitor`."""
    match record:
        case WorkerProgress(text=text, done=done, total=total):
            return ui.Bar(text, done, total)
        case Report():
            return _report(record)
        case Reported():
            return _reported(record)
        case Attempt():
            return _attempt(record)
        case Probed():
            return _probed(record)
        case Rows():
            return _rows(record)
        case _:
            return None


def draw_status(record: Record) -> RenderableType | str | ui.Bar | None:
    """Draw one look at the status, where there is no terminal to draw a live screen on."""
    if not isinstance(record, Report):
        return draw(record)
    once = "one look; on a terminal `mlstack monitor` goes on until q or Ctrl-C"
    return Group(screen(record), Text(once, style="dim"))


def is_screen(call: Call) -> bool:
    """Tell whether there is a terminal to draw on, and a person who asked for text."""
    target = ui.console()
    return target.is_terminal and not target.is_dumb_terminal and not (call.json or call.quiet)


def live(reports: Iterator[WorkerProgress | Report]) -> None:
    """Draw reports as they come until q or Ctrl-C; both are how a viewer ends, so exit code 0."""
    target = ui.console()
    with keys.raw(sys.stdin), Live(console=target, screen=True, auto_refresh=False) as shown:
        try:
            for report in reports:
                if isinstance(report, WorkerProgress):
                    said = f"{report.text}, {report.done} of {counted(report.total, 'day')} done"
                    shown.update(Text(said), refresh=True)
                    continue
                shown.update(ui.Harmless(fitted(report, target)), refresh=True)
                if keys.is_pressed(sys.stdin, "q", wait_s=REFRESH_S):
                    return
        except KeyboardInterrupt:
            return


def screen(report: Report, footer: str = "") -> RenderableType:
    """Draw the whole state: verdict, service, predictions and columns."""
    style = "red" if report.alert else "green"
    title = f"{report.model} version {report.version}"
    said = _verdict(report, title)
    # Into a pipe nothing is wrapped, and the frame would cut it off.
    said.no_wrap, said.overflow = False, "fold"
    verdict = Panel(said, title=title, border_style=style, padding=(0, 1))
    shape = Table.grid(padding=(0, 3))
    shape.add_row(_shares(report), _columns(report.findings))
    parts: list[RenderableType] = [verdict, Text(), _service(report), Text(), shape]
    parts += [Text(f"days     {gradual.said(report.gradual)}")] if report.gradual else []
    parts += [Text(f"note: {line}", style="yellow") for line in report.warnings]
    if footer:
        parts.append(Text(f"\n{report.since} to {report.until}   {footer}", style="dim"))
    return Group(*parts)


def fitted(report: Report, target: Console) -> RenderableType:
    """Draw the live screen as high as the terminal; on a low one, what matters most."""
    whole = screen(report, footer="q ends")
    if len(target.render_lines(whole)) <= target.height:
        return whole
    alarming = [one for one in report.findings if one.alert]
    calm = [one for one in report.findings if not one.alert]
    parts: list[RenderableType] = [_verdict(report), _service(report)]
    parts += [_columns(alarming)] if alarming else []
    parts += [Text(f"note: {line}", style="yellow") for line in report.warnings]
    parts += [_shares(report), _columns(calm)]
    lines = target.render_lines(Group(*parts), pad=False)[: target.height - 1]
    kept = [segment for line in lines for segment in (*line, Segment.line())]
    return Group(Segments(kept), Text("q ends; a higher window shows more", style="dim"))


def _report(report: Report) -> RenderableType:
    parts: list[RenderableType] = [_verdict(report), Text()]
    parts += [_findings(report.findings), Text(), _service(report)]
    parts += [Text(f"days     {gradual.said(report.gradual)}")] if report.gradual else []
    if report.quality is not None:
        one = report.quality
        parts.append(
            Text(
                f"measured accuracy {one.accuracy:.1%} ({one.low:.1%} to {one.high:.1%}) on "
                f"{counted(one.labels, 'label')}; {one.coverage:.0%} of the window is labelled; "
                "labels of chosen predictions only tell about those"
            )
        )
    if report.estimated_accuracy is not None:
        parts.append(
            Text(
                f"estimated accuracy {report.estimated_accuracy:.1%}, from the confidences alone: "
                "blind to concept drift"
            )
        )
    parts += [Text(f"note: {line}", style="yellow") for line in report.warnings]
    if report.alert_file:
        parts.append(Text(f"alert   {report.alert_file} (names the predictions to label)"))
    if report.alert:
        parts.append(Text("next    mlstack monitor report   (shows what changed)"))
    return Group(*parts)


def _reported(reported: Reported) -> RenderableType:
    parts = [Text(f"{'ALERT' if reported.alert else 'OK'}  {reported.summary}")]
    parts += [Text(f"note: {line}", style="yellow") for line in reported.warnings]
    parts.append(Text(f"report  {reported.report_file}"))
    if reported.alert_file:
        parts.append(Text(f"alert   {reported.alert_file} (names the predictions to label)"))
    return Group(*parts)


def _verdict(report: Report, title: str = "") -> Text:
    word = Text("ALERT" if report.alert else "OK", style="bold red" if report.alert else "green")
    return Text.assemble(word, "  ", report.summary.removeprefix(f"{title}: "))


def _findings(findings: list[Finding]) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("", "what", "effect", "limit", "p", "detail"):
        right = name in ("effect", "limit", "p")
        table.add_column(name, justify="right" if right else "left", no_wrap=name != "detail")
    for one in findings:
        table.add_row(
            Text("ALERT", style="red") if one.alert else Text("ok", style="green"),
            Text(one.subject),
            f"{one.effect:.3g}",
            f"{one.limit:g}",
            "" if one.p_value is None else f"{one.p_value:.2g}",
            Text(one.detail),
        )
    return table


def _service(report: Report) -> Text:
    one = report.service
    if one is None or not one.requests:
        return Text("service  no request yet")
    return Text(
        f"service  {counted(one.requests, 'request')}, {one.per_minute:,.0f} a minute, "
        f"{one.failed} failed (5xx), {one.refused} refused (4xx)\n"
        f"latency  {_latency(one)}"
    )


def _latency(one: Service) -> str:
    if one.p50_ms is None or one.p95_ms is None or one.p99_ms is None:
        return "not known"
    return f"p50 {one.p50_ms:.1f} ms   p95 {one.p95_ms:.1f} ms   p99 {one.p99_ms:.1f} ms"


def _shares(report: Report) -> RenderableType:
    if not report.changes:
        return Text("predictions: too few to compare yet")
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("predicted")
    table.add_column("now | reference", min_width=BAR)
    table.add_column("share", justify="right")
    most = max(max(one.current, one.reference) for one in report.changes)
    shown = sorted(report.changes[:SHOWN_CLASSES], key=lambda one: one.value)
    for one in shown:
        table.add_row(Text(one.value), _bar(one, most), f"{one.current:.1%}")
    if len(report.changes) > SHOWN_CLASSES:
        table.add_row("...", Text(f"{len(report.changes) - SHOWN_CLASSES} more"), "")
    return table


def _bar(one: Change, most: float) -> Text:
    """Draw the current share as a bar, and the reference as a mark on it."""
    length = one.current / most * (BAR - 1)
    full = int(length)
    cells = list("█" * full + EIGHTHS[int((length - full) * 8)])
    cells += [" "] * (BAR - len(cells))
    mark = min(BAR - 1, round(one.reference / most * (BAR - 1)))
    drawn = Text("".join(cells[:mark]), style="cyan")
    drawn.append("|", style="bold yellow")
    drawn.append("".join(cells[mark + 1 :]), style="cyan")
    return drawn


def _columns(findings: list[Finding]) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    for name in ("checked", "effect of limit", ""):
        table.add_column(name)
    for one in findings:
        filled = min(10, round(one.effect / one.limit * 10)) if one.limit else 10 * one.alert
        style = "red" if one.alert else "green"
        table.add_row(
            Text(one.subject),
            Text("■" * filled + "·" * (10 - filled), style=style),
            Text("ALERT" if one.alert else "ok", style=style),
        )
    return table


def _attempt(one: Attempt) -> str:
    said = f"{one.failure}: {one.problem}" if one.failure else "ok"
    return f"{one.number}/{one.total}  {one.ms:7.1f} ms  {said}"


def _probed(one: Probed) -> str:
    failed = sum(one.failures.values())
    times = "" if one.p50_ms is None else f", p50 {one.p50_ms:.1f} ms, max {one.max_ms:.1f} ms"
    kinds = ", ".join(f"{count} {name}" for name, count in one.failures.items())
    line = f"{one.url}: {one.attempts - failed} of {one.attempts} attempts were well{times}"
    line += f" ({kinds})" if kinds else ""
    return f"DOWN  {line}\n{one.last_problem}" if one.last_problem else f"UP  {line}"


def _rows(answer: Rows) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in answer.columns:
        table.add_column(Text(name))
    for row in answer.rows:
        table.add_row(*[Text("" if value is None else _cell(value)) for value in row])
    if answer.truncated:
        return Group(table, Text(f"only the first {len(answer.rows)} rows; add a LIMIT or a WHERE"))
    return table


def _cell(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
