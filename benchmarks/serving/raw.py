"""What ONNX Runtime reaches in a process of its own: `python raw.py GRAPH KIND SECONDS`."""

import json
import sys
import threading
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from serving import packages

BATCHES = (16, 32, 64)


def rows_per_s(graph: Path, x: np.ndarray, *, runners: int, threads: int, seconds: float) -> float:
    """Run batches in `runners` threads on one session of `threads` threads."""
    session = packages.session(graph, threads)
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
    """Print the best of all layouts of two cores and batch sizes, and what one row costs."""
    graph, kind, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    best = 0.0
    before = time.process_time()
    rows = 0.0
    for runners, threads in ((1, 2), (2, 1)):
        for batch in BATCHES:
            x = np.repeat(packages.example(kind), batch, axis=0)
            got = rows_per_s(graph, x, runners=runners, threads=threads, seconds=seconds)
            best, rows = max(best, got), rows + got * seconds
    cpu_us = (time.process_time() - before) / rows * 1e6
    print(json.dumps({"rows_per_s": best, "cpu_us": cpu_us}))


if __name__ == "__main__":
    main()
