"""Features as of a moment: 1,000,000 rows joined to 10,000,000 feature rows, against pandas.

Each side is a process of its own that reads Parquet and writes Parquet; CPU seconds and the peak of
resident memory are the kernel's. pandas is installed into an environment of its own, unless
`--peer PYTHON` names one. Both answers are compared.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS, KNOWN, KEYS, ROUNDS = 1_000_000, 10_000_000, 100_000, 3
YEAR_US = 365 * 86_400 * 1_000_000
OWN = """
import sys
from pathlib import Path
import pyarrow.parquet as pq
from mlstack.inputs.features import Features, FeatureSpec
folder = Path(sys.argv[1])
with Features(FeatureSpec("key", "time", ("features.parquet",), 30 * 86400), folder) as features:
    pq.write_table(features.attach(pq.read_table(folder / "table.parquet")), folder / "own.parquet")
"""
PEER = """
import sys
from pathlib import Path
import pandas as pd
folder = Path(sys.argv[1])
rows = pd.read_parquet(folder / "table.parquet")
known = pd.read_parquet(folder / "features.parquet")
joined = pd.merge_asof(
    rows.sort_values("time"), known.sort_values("time"), on="time", by="key",
    tolerance=pd.Timedelta(days=30),
)
joined.sort_values("row").drop(columns=["key", "time"]).to_parquet(folder / "peer.parquet")
"""


def make(folder: Path) -> None:
    random = np.random.default_rng(17)

    def moments(count: int) -> dict[str, pa.Array]:
        times = pa.array(random.integers(0, YEAR_US, count), pa.timestamp("us"))
        return {"key": pa.array(random.integers(0, KEYS, count)), "time": times}

    values = {name: random.normal(size=KNOWN) for name in ("a", "b", "c")}
    pq.write_table(pa.table(moments(KNOWN) | values), folder / "features.parquet")
    rows = moments(ROWS) | {"row": pa.array(np.arange(ROWS))}
    pq.write_table(pa.table(rows), folder / "table.parquet")


def measure(python: str, script: str, folder: Path) -> tuple[float, float, float]:
    """Run a script; give CPU seconds, wall seconds and the peak of memory in MB."""
    start = time.perf_counter()
    child = subprocess.Popen([python, "-c", script, str(folder)])
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{python} ended with {child.returncode}")
    return used.ru_utime + used.ru_stime, time.perf_counter() - start, used.ru_maxrss / 1000


def same(folder: Path) -> float:
    """Give the largest difference of the two answers."""
    own, peer = pq.read_table(folder / "own.parquet"), pq.read_table(folder / "peer.parquet")
    worst = 0.0
    for name in ("a", "b", "c"):
        left, right = own[name].to_numpy(), peer[name].to_numpy()
        assert (np.isnan(left) == np.isnan(right)).all(), name
        worst = max(worst, float(np.nanmax(np.abs(left - right))))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer", help="a Python that has pandas and pyarrow")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder, peer = Path(scratch), wanted.peer
        if peer is None:
            venv.create(folder / "peer", with_pip=True)
            peer = str(folder / "peer" / "bin" / "python")
            subprocess.run([peer, "-m", "pip", "install", "-q", "pandas", "pyarrow"], check=True)
        make(folder)
        figures: dict[str, list[tuple[float, float, float]]] = {"mlstack": [], "pandas": []}
        for _ in range(ROUNDS):
            figures["mlstack"].append(measure(sys.executable, OWN, folder))
            figures["pandas"].append(measure(peer, PEER, folder))
        print(f"{ROWS:,} x {KNOWN:,} rows, {KEYS:,} keys; medians of {ROUNDS} rounds")
        print(f"largest difference of the answers {same(folder):.1e}")
        print(f"{'':10}{'cpu s':>8}{'wall s':>8}{'peak MB':>9}")
        for name, rounds in figures.items():
            cpu, wall, peak = (statistics.median(one) for one in zip(*rounds, strict=True))
            print(f"{name:10}{cpu:8.1f}{wall:8.1f}{peak:9.0f}")


if __name__ == "__main__":
    main()
