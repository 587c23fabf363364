"""The skeleton of a self-contained page: head, sections, tables, charts."""

from collections.abc import Iterable
from html import escape
from importlib.resources import files as package_files

from mlstack.records.run import RunSummary
from mlstack.train import chart
from mlstack.train.chart import Chart


def whole(title: str, body: str) -> str:
    """Make the file: style and script are in it, nothing else is loaded."""
    here = package_files("mlstack.train")
    style, script = (here.joinpath(f"page.{kind}").read_text("utf-8") for kind in ("css", "js"))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head>"
        f'<body>{body}<script type="module">{script}</script></body></html>\n'
    )


def section(title: str, body: str) -> str:
    """Give a part of the page its title; nothing when it is empty."""
    return f"<section><h2>{escape(title)}</h2>{body}</section>" if body else ""


def epochs(summary: RunSummary) -> str:
    """Say how many epochs of a run are done; one that ended in its first knows no number."""
    return f"{summary.epoch} of {summary.epochs}" if summary.epochs else "none"


def folded(title: str, body: str) -> str:
    """Hide what few people look for behind a click."""
    return f"<details><summary>{escape(title)}</summary>{body}</details>"


def wide(body: str) -> str:
    """Let a table scroll by itself where the screen is narrow."""
    return f'<div class="wide">{body}</div>'


def charts(given: Iterable[Chart]) -> str:
    """Draw charts side by side, as many as fit."""
    drawn = "".join(map(chart.draw, given))
    return f'<div class="charts">{drawn}</div>' if drawn else ""


def table(rows: list[tuple[str, str]]) -> str:
    """Draw names and values."""
    cells = (f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{''.join(cells)}</table>" if rows else '<p class="soft">none</p>'


def duration(seconds: float) -> str:
    """Write a time, short."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    hours, minutes_ = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes_} min" if hours else f"{minutes_} min"
