"""Time calls of a graph as they come, and bound to memory that is kept (IO binding).

    python benchmarks/serve_binding.py [cpu|gpu [MODEL.onnx]]

Without a graph, one linear layer on pictures of 16 x 16. Both kinds of call take turns in blocks,
so that whatever else the machine does is unfair to none; the fastest block counts. On a GPU both
are given page-locked arrays, as the server gathers requests into.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "serve"))

import serving

from mlstack.serve.worker import cuda
from mlstack.serve.worker.runner import Runner

SIZES = (1, 2, 4, 8, 16, 32, 64)
BLOCKS = 15
BLOCK_S = 0.02


def block_us(runner: Runner, arrays: list[np.ndarray]) -> float:
    """Give the microseconds of a call, for about a fiftieth of a second."""
    calls, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < BLOCK_S:
        runner.run(arrays)
        calls += 1
    return passed / calls * 1e6


def main(device: str, model: Path) -> None:
    """Print a line for each batch size."""
    runner = Runner(model, device, threads=0 if device == "gpu" else 1)
    library = cuda.runtime() if runner.on_gpu else None
    print(f"{runner.provider}: rows, usual us, bound us, bound / usual")
    for rows in SIZES:
        zeros = runner.zeros(rows)
        if zeros is None or not runner.bind(rows):
            sys.exit("the sizes of this graph are not all known")
        arrays = [cuda.page_locked([*a.shape], a.dtype, library) for a in zeros]
        bound, usual = [], []
        for _ in range(BLOCKS):
            runner.bind(rows)
            bound.append(block_us(runner, arrays))
            runner.unbind(rows)
            usual.append(block_us(runner, arrays))
        print(f"{rows:4} {min(usual):10.1f} {min(bound):10.1f} {min(bound) / min(usual):8.2f}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "model.onnx"
        serving.make_graph(graph, 1)
        given = dict(enumerate(sys.argv))
        main(given.get(1, "cpu"), Path(given.get(2, graph)))
