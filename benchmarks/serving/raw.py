"""What ONNX Runtime reaches in a process of its own: `python raw.py GRAPH KIND SECONDS`."""

import json
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime as ort

sys.path.insert(0, str(Path(__file__).parents[1]))

from serving import packages

BATCHES = (16, 32, 64)


LAYOUTS = ((1, 2), (2, 1))  # runners, threads of each
LAPS = 3


def rows_per_s(
    session: ort.InferenceSession, x: np.ndarray, *, runners: int, seconds: float
) -> float:
    """Run batches in `runners` threads on one session."""
    counts = [0] * runners
    session.run(None, {"x": x})
    started = time.perf_counter()

    def work(index: int) -> None:
        while time.perf_counter() - started < seconds:
            session.run(None, {"x": x})
            counts[index] += len(x)

    workers = [threading.Thread(target=work, args=(index,)) for index in range(runners)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.perf_counter() - started)


def main() -> None:
    """Print the best of all layouts of two cores and batch sizes, and what one row costs there.

    Layouts take turns, and each has the median of its laps: the best of single laps would be the
    machine's luckiest moment.
    """
    graph, kind, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    sessions = {threads: packages.session(graph, threads) for _, threads in LAYOUTS}
    rates = defaultdict(list)
    costs = defaultdict(list)
    for _ in range(LAPS):
        for runners, threads in LAYOUTS:
            for batch in BATCHES:
                x = np.repeat(packages.example(kind), batch, axis=0)
                before, started = time.process_time(), time.perf_counter()
                got = rows_per_s(sessions[threads], x, runners=runners, seconds=seconds)
                rates[runners, batch].append(got)
                rows = got * (time.perf_counter() - started)
                costs[runners, batch].append((time.process_time() - before) / rows)
    best = max(rates, key=lambda layout: median(rates[layout]))
    print(json.dumps({"rows_per_s": median(rates[best]), "cpu_us": median(costs[best]) * 1e6}))


if __name__ == "__main__":
    main()
