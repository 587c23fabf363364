"""What a person reads of `serve`."""

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from mlstack.printable import printable
from mlstack.records.worker import WorkerProgress
from mlstack.serve.results import (
    Assumed,
    Benched,
    Beside,
    Changed,
    KeyAdded,
    KeyRevoked,
    KeysListed,
    PackageLine,
    Predictions,
    Promoted,
    Status,
)
from mlstack.ui import Bar

MOST_METRICS = 3


def draw(record: Any) -> RenderableType | Bar | None:
    """Draw one record of `serve`."""
    match record:
        case Promoted(model=model, number=number):
            return f"no package of {model} was live yet: promoted the newest, {number}"
        case Assumed(model=model):
            return (
                f"no mlstack.yaml here: serving {model} with the defaults (`--set serve.a=b` "
                "changes them); requests are kept in .mlstack/requests"
            )
        case WorkerProgress(text=text, done=done, total=total):
            return Bar(text, done, total)
        case Changed():
            return _changed(record)
        case Status():
            return _status(record)
        case Predictions():
            return _predictions(record)
        case Benched():
            return _benched(record)
        case KeyAdded() | KeysListed() | KeyRevoked():
            return _keys(record)
    return None


def _keys(record: KeyAdded | KeysListed | KeyRevoked) -> RenderableType:
    match record:
        case KeyAdded(name=name, key=key):
            how = f'callers send "Authorization: Bearer {key[:12]}..."; `predict` reads'
            said = f"{key}\n\nthe key of {name}, shown this once; {how} MLSTACK_API_KEY"
            return f"{said}\nwarning: {record.note}" if record.note else said
        case KeyRevoked(name=name, id=number, left=left):
            return f"the key of {name} ({number}) is refused from now on; {left} left"
        case KeysListed(keys=[]):
            return "no keys; type `mlstack serve keys add NAME`"
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("key", "name", "made", "revoked"):
        table.add_column(title, overflow="fold")
    for line in record.keys:
        table.add_row(f"{line.id}...", line.name, line.created, line.revoked)
    return table


def _changed(changed: Changed) -> str:
    lines = [f"{changed.model}: version {changed.live} is live"]
    if changed.previous is not None:
        lines[0] += f" (before: {changed.previous})"
    if changed.canary is not None:
        lines.append(f"version {changed.canary} gets {changed.canary_percent:g} % as a canary")
    if changed.shadow is not None:
        lines.append(f"version {changed.shadow} is asked {changed.shadow_percent:g} % as a shadow")
    if changed.note:
        return "\n".join([*lines, changed.note])
    if changed.url is None:
        lines.append("no server runs; `mlstack serve` starts one")
    elif changed.taken_over:
        lines.append(f"{changed.url} answers so from now on")
    else:
        lines.append(f"the server at {changed.url} has not taken it over; see what it wrote")
    return "\n".join(lines)


def _status(status: Status) -> RenderableType:
    if status.url is None:
        first = f"{status.model}: no server runs; `mlstack serve` starts one"
    elif status.ready:
        first = f"{status.model}: version {status.serving} answers on {status.url}"
        first += f" ({status.provider}, pid {status.pid})"
        first += ", as `--model` says" if status.fixed else ""
    else:
        first = f"{status.model}: the server on {status.url} (pid {status.pid}) is not ready"
    if not status.packages:
        return Group(first, "there is no package yet; type `mlstack export`")
    table = Table(box=None, pad_edge=False, header_style="dim")
    named = dict.fromkeys(n for p in status.packages for n in p.metrics)
    tested = [n for n in named if n.startswith("test/")] or list(named)
    names = tested[:MOST_METRICS]
    for title in ("version", "", "run", *names):
        table.add_column(title, overflow="fold")
    for package in reversed(status.packages):
        table.add_row(*_row(package, status, names))
    notes = [status.note] if status.note else []
    notes += [_how_it_does(one) for one in status.beside]
    return Group(first, "", table, *(["", *notes] if notes else []))


def _how_it_does(one: Beside) -> str:
    text = f"{one.role} {one.version}: "
    if one.role == "canary":
        text += f"{one.requests:,} requests, {one.failed:,} failed, {one.slow:,} slow"
    else:
        text += f"{one.failed:,} rows failed, {one.dropped:,} dropped"
    if one.compared:
        share = one.agreed / one.compared
        text += f"; agrees with the live model in {share:.1%} of {one.compared:,} rows"
    return text


def _row(package: PackageLine, status: Status, names: list[str]) -> list[str]:
    role = package.role
    if role == "canary":
        role = f"canary {status.canary_percent:g} %"
    if role == "shadow":
        role = f"shadow {status.shadow_percent:g} %"
    if package.problem:
        return [str(package.number), role or "damaged", package.problem]
    measured = [f"{package.metrics[n]:.4g}" if n in package.metrics else "" for n in names]
    return [str(package.number), role, package.run, *measured]


def _predictions(predictions: Predictions) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("file", overflow="fold")
    table.add_column("prediction")
    table.add_column("confidence", justify="right")
    for one in predictions.predictions:
        place = one.file if one.row is None else f"{one.file} row {one.row + 1}"
        table.add_row(printable(place), printable(one.prediction), f"{one.confidence:.1%}")
    return Group(table, "", f"by version {predictions.version} of {predictions.model}")


def _benched(benched: Benched) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("rows", "p50 ms", "p99 ms", "rows/s"):
        table.add_column(title, justify="right")
    for timing in benched.timings:
        table.add_row(
            str(timing.rows),
            f"{timing.p50_ms:.3f}",
            f"{timing.p99_ms:.3f}",
            f"{timing.rows_per_s:,.0f}",
        )
    lines = [f"version {benched.version} of {benched.model} on {benched.provider}, without HTTP"]
    notes = [benched.advice]
    if benched.decode_ms is not None:
        notes.append(f"decoding one {benched.example} takes {benched.decode_ms:.2f} ms")
    parts: list[RenderableType] = [*lines, "", table, "", *notes]
    if benched.loads:
        parts += ["", "behind a server on loopback", "", _loads(benched), "", benched.load_advice]
    if len(benched.rows_per_s_by_device) > 1:
        devices = benched.rows_per_s_by_device.items()
        parts.append("rows a second: " + ", ".join(f"{name} {rate:,.0f}" for name, rate in devices))
    return Group(*parts)


def _loads(benched: Benched) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("payload")
    for title in ("connections", "p50 ms", "p99 ms", "requests/s"):
        table.add_column(title, justify="right")
    for load in benched.loads:
        table.add_row(
            load.payload,
            str(load.connections),
            f"{load.p50_ms:.3f}",
            f"{load.p99_ms:.3f}",
            f"{load.requests_per_s:,.0f}",
        )
    return table
