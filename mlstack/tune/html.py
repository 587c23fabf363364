"""A study as one self-contained HTML page: how it went, what each setting did, every trial."""

from html import escape
from importlib.resources import files as package_files
from itertools import accumulate
from typing import Any

from mlstack.plurals import counted
from mlstack.tune import scatter
from mlstack.tune.results import TrialRow, Tuned
from mlstack.tune.scatter import Dot

OVER = ("finished", "pruned", "failed")


def page(study: Tuned) -> str:
    """Draw the page; style and charts are in it, nothing else is loaded."""
    style = package_files("mlstack.tune").joinpath("page.css").read_text("utf-8")
    over = sum(trial.state in OVER for trial in study.trials)
    head = (
        f'<h1>study {escape(study.study)}<span class="state {study.state}">{study.state}</span>'
        f'</h1><p class="soft">{over} of {counted(study.wanted, "trial")}, '
        f"{study.mode} {escape(study.monitor)}</p>"
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>study {escape(study.study)}</title><style>{style}</style></head><body>"
        f"{head}{_tiles(study)}{_section('How it went', _way(study))}"
        f"{_section('What each setting did', _settings(study))}"
        f"{_section('Trials', _trials(study))}</body></html>\n"
    )


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>" if body else ""


def _tiles(study: Tuned) -> str:
    facts = []
    if study.best is not None:
        facts.append((f"{study.monitor}, trial {study.best.number}", f"{study.best.value:.4f}"))
        facts += [(_short(key), _said(value)) for key, value in study.best.parameters.items()]
    for state in ("pruned", "failed", "interrupted"):
        count = sum(trial.state == state for trial in study.trials)
        facts += [(state, str(count))] if count else []
    tiles = (
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
        for name, value in facts
    )
    return f'<div class="tiles">{"".join(tiles)}</div>' if facts else ""


def _way(study: Tuned) -> str:
    """Draw the value of each trial, and the best one so far."""
    dots = [_dot(study, trial, trial.number) for trial in _measured(study)]
    better = max if study.mode == "max" else min
    whole = [trial for trial in _measured(study) if trial.state == "finished"]
    best = list(accumulate((trial.value or 0.0 for trial in whole), better))
    way = [(float(trial.number), value) for trial, value in zip(whole, best, strict=True)]
    drawn = scatter.draw(f"{study.monitor} by trial; the line is the best so far", dots, way)
    return f'<div class="charts">{drawn}</div>' if drawn else ""


def _settings(study: Tuned) -> str:
    """Draw the value over each setting, what matters most first."""
    keys = list(dict.fromkeys(key for trial in study.trials for key in trial.parameters))
    keys.sort(key=lambda key: -study.importance.get(key, 0.0))
    drawn = []
    for key in keys:
        dots = [
            _dot(study, trial, trial.parameters[key])
            for trial in _measured(study)
            if key in trial.parameters
        ]
        share = study.importance.get(key)
        weight = "" if share is None else f", {share:.0%} of what matters"
        drawn.append(scatter.draw(f"{_short(key)}{weight}", dots))
    return f'<div class="charts">{"".join(drawn)}</div>' if any(drawn) else ""


def _measured(study: Tuned) -> list[TrialRow]:
    return [trial for trial in study.trials if trial.value is not None]


def _dot(study: Tuned, trial: TrialRow, across: Any) -> Dot:
    settings = ", ".join(f"{_short(k)} {_said(v)}" for k, v in trial.parameters.items())
    is_best = study.best is not None and trial.number == study.best.number
    look = "best" if is_best else "" if trial.state == "finished" else "pruned"
    value = trial.value or 0.0
    return Dot(across, value, look, f"trial {trial.number}, {trial.state}: {value:.4f}; {settings}")


def _trials(study: Tuned) -> str:
    keys = list(dict.fromkeys(key for trial in study.trials for key in trial.parameters))
    names = ["trial", "state", study.monitor, "epochs", *map(_short, keys), "run"]
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = []
    for trial in study.trials:
        is_best = study.best is not None and trial.number == study.best.number
        value = "" if trial.value is None else f"{trial.value:.4f}"
        cells = [str(trial.number), trial.state, value, str(trial.epochs or "")]
        cells += [_said(trial.parameters[key]) if key in trial.parameters else "" for key in keys]
        plain = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        last = f"{trial.run} {trial.problem}".strip()
        look = ' class="failed"' if trial.problem else ""
        rows.append(
            f"<tr{' class=best' if is_best else ''}>{plain}<td{look}>{escape(last)}</td></tr>"
        )
    if not rows:
        return ""
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _short(key: str) -> str:
    return key.removeprefix("model.args.").removeprefix("train.")


def _said(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
