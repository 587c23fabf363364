"""What a run has done, to be drawn or copied: each step and epoch once, resumed or not."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mlstack.records.run import EpochEnded, RunEvent, Started, Stepped, read_events
from mlstack.records.system import Speed, Used, read_system

MOST_POINTS = 300
AWAY_S = 60.0  # a longer silence between two looks is a break, not training


@dataclass(frozen=True)
class History:
    """A run's way so far."""

    steps: list[Stepped]
    epochs: list[EpochEnded]
    speeds: list[Speed]
    used: list[Used]
    attempts: int = 0  # how often its ranks were started


def history(run_folder: Path) -> History:
    """Read a run's events and what it used of the machine."""
    events = standing(read_events(run_folder))
    system = read_system(run_folder)
    speeds = {one.epoch: one for one in system if isinstance(one, Speed)}
    return History(
        steps=[e for e in events if isinstance(e, Stepped)],
        epochs=[e for e in events if isinstance(e, EpochEnded)],
        speeds=[speeds[epoch] for epoch in sorted(speeds)],
        used=[one for one in system if isinstance(one, Used)],
        attempts=sum(isinstance(e, Started) for e in events),
    )


def standing(events: Iterable[RunEvent]) -> list[RunEvent]:
    """Leave out what a resume has done again: steps beyond the one that it went on from."""
    kept: list[RunEvent] = []
    for event in events:
        if isinstance(event, Started) and event.attempt > 1:
            kept = [
                one
                for one in kept
                if not (isinstance(one, Stepped | EpochEnded) and one.step > event.step)
            ]
        kept.append(event)
    return kept


def minutes(used: list[Used]) -> list[float]:
    """Give for each look how long the run had been going, breaks between attempts left out."""
    passed, found, before = 0.0, [], used[0].at if used else 0.0
    for one in used:
        passed += one.at - before if 0 <= one.at - before < AWAY_S else 0.0
        before = one.at
        found.append(passed / 60)
    return found


def thin(points: list[tuple[float, float]], most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """Draw many points as few: the means of neighbours, at the middle one; the last stays."""
    if len(points) <= most:
        return points
    size = -(-len(points) // (most - 1))
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    means = [(group[len(group) // 2][0], sum(y for _, y in group) / len(group)) for group in groups]
    return [*means[:-1], points[-1]]
