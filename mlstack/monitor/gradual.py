"""Drift that is too small for one look and lasts: whole days against the calm days before them."""

from dataclasses import dataclass

import numpy as np

from mlstack.monitor.drift import CONFIDENCE, MISSING, PREDICTION
from mlstack.plurals import figure
from mlstack.records import requests
from mlstack.records.day import Day
from mlstack.records.reference import Reference
from mlstack.records.report import Course, Finding, Gradual
from mlstack.stats import sequential
from mlstack.stats.sequential import Floats, Statistic

NEARLY = 0.8  # of what speaks for a change: days before it speak a little too, by chance
OVER_DAYS = " over days"  # after a column's name: its course, not its last window


@dataclass(frozen=True)
class Judged:
    """What was found, and what it is drawn from; the arrays have shape (days,)."""

    found: Gradual
    dates: list[str]
    distances: dict[str, Floats]  # by column, NaN where there is none


def judge(
    days: list[Day], reference: Reference, *, fewest_rows: int, least: float, hidden: list[str]
) -> Judged:
    """Judge the days that had `fewest_rows` predictions or more.

    Args:
        days: every day that is over, the oldest first.
        reference: the profile whose bins the days are counted over.
        fewest_rows: predictions without which a day says nothing.
        least: distance that counts when it lasts.
        hidden: columns that are not looked at.
    """
    kept = _alike([day for day in days if day.rows >= fewest_rows])
    plain = {name.removeprefix(requests.FEATURE) for name in hidden} | set(hidden)
    left_out = plain | {name + MISSING for name in plain}
    table = {
        name: np.asarray([day.counts[name] for day in kept], dtype=np.int64)
        for name in (kept[-1].counts if kept else {})
        if name not in left_out
    }
    table = {name: counts for name, counts in table.items() if _has_news(name, counts)}
    ordered = {column.name for column in reference.numeric}
    kinds: dict[str, Statistic] = {name: "KS" if name in ordered else "TV" for name in table}
    courses = {name: sequential.course(table[name], kinds[name]) for name in table}
    if len(kept) <= sequential.FEWEST or not courses:
        return Judged(_nothing(len(kept)), [], {})
    gathered = sequential.evidence(list(courses.values()), least)  # (days, columns)
    total = float(gathered[-1].mean())
    dates = [day.date for day in kept]
    listed = [
        Course(
            column=name,
            area="prediction" if name in (PREDICTION, CONFIDENCE) else "input",
            statistic=kinds[name],
            # The mean is above the limit only where a column is.
            alert=total >= sequential.RATE and float(track[-1]) >= sequential.RATE,
            distance=float(np.nan_to_num(one.distances[-1])),
            usual=one.usual,
            evidence=float(track[-1]),
            since=_since(dates, track),
        )
        for (name, one), track in zip(courses.items(), gathered.T, strict=True)
    ]
    found = Gradual(
        days=len(kept),
        calm=max(one.calm for one in courses.values()),
        alert=total >= sequential.RATE,
        evidence=total,
        limit=sequential.RATE,
        courses=sorted(listed, key=lambda one: -one.evidence),
    )
    return Judged(
        found=found,
        dates=dates,
        distances={name: one.distances for name, one in courses.items()},
    )


def findings(found: Gradual, least: float) -> list[Finding]:
    """Give what alarms, as findings; calm columns are in `found` alone."""
    return [
        Finding(
            subject=one.column + OVER_DAYS,
            area=one.area,
            alert=True,
            effect=one.distance,
            limit=least,
            statistic=one.statistic,
            detail=f"calm days differ by up to {one.usual:.2g}",
        )
        for one in found.courses
        if one.alert
    ]


def said(found: Gradual) -> str:
    """Say how the days are judged."""
    if not found.calm:
        wanted = sequential.FEWEST + 1
        return f"{found.days} of {wanted} whole days logged; with {wanted}, slow drift is seen too"
    told = "slow drift" if found.alert else "no slow drift"
    calm = f"{told} over {found.days} days, against the first {found.calm}"
    return f"{calm}; evidence {figure(found.evidence)}, an alarm from {found.limit:g} on"


def _nothing(days: int) -> Gradual:
    return Gradual(days=days, calm=0, alert=False, evidence=0.0, limit=sequential.RATE, courses=[])


def _alike(days: list[Day]) -> list[Day]:
    """Keep the days that were counted over the same bins as the last one."""
    shapes = [{name: len(counts) for name, counts in day.counts.items()} for day in days]
    return [day for day, shape in zip(days, shapes, strict=True) if shape == shapes[-1]]


def _has_news(name: str, counts: sequential.Counts) -> bool:
    return bool(counts[:, 1].any() if name.endswith(MISSING) else counts.any())


def _since(dates: list[str], track: Floats) -> str | None:
    """Give the day since when nearly all speaks for a change: what is likeliest its first one."""
    before = np.concatenate([[0.0], track[:-1]])
    spoken = np.log(np.where(track > 0, track, 1.0) / np.where(track > 0, before + 1, 1.0))
    onwards = spoken[::-1].cumsum()[::-1]  # of each day and all later ones
    if onwards.max() <= 0:
        return None
    return dates[int(np.flatnonzero(onwards >= NEARLY * onwards.max())[-1])]
