"""`python -m mlstack.export.worker.race REQUEST`: how fast the graphs of one run answer."""

import platform
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from mlstack.export.handover import Lap, Raced, RaceRequest, Said
from mlstack.export.worker import clock
from mlstack.export.worker.arrays import opened
from mlstack.export.worker.channel import answer
from mlstack.export.worker.session import Session, cores, limit, size_bytes
from mlstack.records.variants import Times
from mlstack.records.worker import WorkerProgress


def race(request: RaceRequest) -> Iterator[Said]:
    """Time all graphs at each batch size, in turns."""
    paths = {name: Path(request.folder) / name for name in request.models}
    largest = max(paths.values(), key=size_bytes)
    spare = len(paths) * 20 * size_bytes(largest)
    limit(largest, request.limit_s, extra_bytes=spare if request.device == "cpu" else None)
    sessions = {name: Session(path, device=request.device) for name, path in paths.items()}
    inputs = opened(request.inputs)
    found: dict[str, list[Times]] = {name: [] for name in sessions}
    for done, batch in enumerate(request.batches):
        yield WorkerProgress(text="timing", done=done, total=len(request.batches))
        call = clock.rows(inputs, batch)
        calls: dict[str, Callable[[], object]] = {
            name: partial(session.answer, call) for name, session in sessions.items()
        }
        for name, taken in clock.race(calls).items():
            found[name].append(clock.times(batch, taken))
    yield Raced(
        laps=[
            Lap(model=name, times=laps, runtime=sessions[name].runtime)
            for name, laps in found.items()
        ],
        runtime=sessions[request.models[0]].runtime,
        threads=cores(),
        processor=platform.machine(),
    )


if __name__ == "__main__":
    answer(RaceRequest, race)
