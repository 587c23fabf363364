"""What a mirror is given: who the run is, and its points in the order of its steps."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mlstack.records.base import read
from mlstack.records.run import (
    EVENTS,
    SPEC,
    EpochEnded,
    Failed,
    Finished,
    RunEvent,
    RunSpec,
    Started,
    Stepped,
    Stopped,
    decode_events,
)
from mlstack.records.system import Speed, read_system
from mlstack.train.curves import standing
from mlstack.train.flat import flat

ENDS = {Finished: "finished", Stopped: "stopped", Failed: "failed"}


@dataclass(frozen=True)
class Entry:
    """A run as other trackers see it."""

    spec: RunSpec
    folder: Path
    project: str
    params: dict[str, str]  # every setting under its whole name
    tags: dict[str, str]


@dataclass(frozen=True)
class Point:
    """What was measured at one step."""

    step: int
    at: float  # seconds since the epoch
    values: dict[str, float]


class Mirror(Protocol):
    """A tracker that keeps one entry for each run."""

    where: str  # the entry can be looked at there

    def open(self, entry: Entry) -> None:
        """Make the run's entry, or find the one that is there; no point may get in twice."""

    def write(self, points: list[Point]) -> None:
        """Add points."""

    def close(self, state: str) -> None:
        """Say how the run stands: running, finished, stopped or failed."""


def entry(folder: Path) -> Entry:
    """Read who a run is.

    Raises:
        DataError: there is no readable run.json.
    """
    spec = read(folder / SPEC, RunSpec)
    tags = {
        "mlstack.run": spec.id,
        "mlstack.data_md5": spec.dataset.md5,
        "mlstack.data_revision": spec.dataset.revision or "",
        "mlstack.code_commit": (spec.code.commit or "") + (" (with changes)" * spec.code.dirty),
        "mlstack.parent": spec.parent or "",
        "mlstack.study": spec.study or "",
    }
    return Entry(
        spec=spec,
        folder=folder,
        project=str(spec.config["project"]["name"]),
        params={name: _written(value) for name, value in flat(spec.config).items()},
        tags={name: value for name, value in tags.items() if value},
    )


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


class Reader:
    """The points of a run: those that are there first, then those that come."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._named: set[str] = set()
        self.offset = 0  # bytes of the events that were read
        self.state = "running"
        self.went_back = False  # a resume does steps again that were given already
        self._last = 0  # step that was given

    def new(self) -> list[Point]:
        """Give the points that came in since the last call, each step of a resumed run once."""
        path = self._folder / EVENTS
        with path.open("rb") as stream:
            stream.seek(self.offset)
            content = stream.read()
        content = content[: content.rfind(b"\n") + 1]
        self.offset += len(content)
        events = list(decode_events(content, where=str(path)))
        begun = [e.step for e in events if isinstance(e, Started) and e.attempt > 1]
        self.went_back = any(step < self._last for step in begun)
        speeds = self._speeds() if any(isinstance(e, EpochEnded) for e in events) else {}
        points = [point for event in standing(events) for point in self._points(event, speeds)]
        self._last = points[-1].step if points else self._last
        return points

    def _speeds(self) -> dict[int, Speed]:
        system = read_system(self._folder)
        return {one.epoch: one for one in system if isinstance(one, Speed)}

    def _points(self, event: RunEvent, speeds: dict[int, Speed]) -> Iterator[Point]:
        self.state = ENDS.get(type(event), self.state)
        if isinstance(event, Started):
            self.state = "running"
        if isinstance(event, Stepped) and event.metrics:
            yield Point(event.step, event.at, event.metrics)
        elif isinstance(event, EpochEnded):
            self._named |= event.metrics.keys()
            values = event.metrics | _system(speeds.get(event.epoch)) | {"epoch": event.epoch}
            yield Point(event.step, event.at, values)
        elif isinstance(event, Finished):
            tested = {n: v for n, v in event.metrics.items() if n not in self._named}
            if tested:
                yield Point(event.step, event.at, tested)


def _system(speed: Speed | None) -> dict[str, float]:
    if speed is None:
        return {}
    values = {
        "system/examples_per_s": speed.examples_per_s,
        "system/loader_wait": speed.loader_wait,
        "system/torch_bytes": speed.gpu_memory_bytes,
    }
    return {name: float(value) for name, value in values.items() if value is not None}
