"""What one look of `mlstack monitor` costs, and a report beside Evidently's on the same rows.

    python benchmarks/monitor.py [--rounds 3]

The peer: 20 columns of numbers, 100,000 rows of reference and as many now, from Parquet to a page
that a person opens, start of the process included. mlstack's reference is in the package, counted
once at export; Evidently reads its table each time. Evidently lives in an environment of its own
below MLSTACK_BENCH_MONITOR, made when it is not there (see monitor_drift.py).
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from monitor_drift import HOME, PEERS, install

from mlstack.records import requests
from mlstack.records.base import write

TESTS = Path(__file__).parents[1] / "tests" / "monitor"
ROWS, COLUMNS = 100_000, 20


@dataclass(frozen=True)
class Cost:
    """What one command took."""

    cpu_s: float
    wall_s: float


def cost(root: Path, command: list[str]) -> Cost:
    """Run one command in `root`, start included."""
    begun = time.monotonic()
    child = subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, env=os.environ)
    _, code, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(code)
    if child.returncode not in (0, 5):
        raise SystemExit(f"{' '.join(command)} ended with {child.returncode}")
    wall_s = time.monotonic() - begun
    return Cost(used.ru_utime + used.ru_stime, wall_s)


def monitor(*words: str) -> list[str]:
    """Give a command of mlstack."""
    return [sys.executable, "-m", "mlstack", "monitor", *words, "--quiet"]


def look(root: Path) -> None:
    """Print what a look costs by how many rows are looked at, and how many are there."""
    from monitor_log import TEMPLATE, Log, Watched, add_package

    (root / "mlstack.yaml").write_text((TEMPLATE / "mlstack.yaml").read_text())
    watched = Watched(root)
    add_package(root)
    watched.part(Log.of(500, seed=1), hour="10")
    print(f"check,     500 of     500 rows  {cost(root, monitor('check')).cpu_s:.2f} CPU-s")
    watched.part(Log.of(100_000, seed=2).later(1), hour="11")
    cost(root, monitor("check"))  # the day is counted, once
    print(f"check,     500 of 100,500 rows  {cost(root, monitor('check')).cpu_s:.2f} CPU-s")
    whole = cost(root, monitor("check", "--window", "100000"))
    print(f"check, 100,000 of 100,500 rows  {whole.cpu_s:.2f} CPU-s")
    for day in range(1, 60):
        watched.part(Log.of(500, seed=10 + day).later(24 * day), date=date_of(day))
    first, again = cost(root, monitor("check")), cost(root, monitor("check"))
    print(f"check, 59 new days of 500 rows  {first.cpu_s:.2f} CPU-s, then {again.cpu_s:.2f}")
    watched.part(Log.of(500, seed=3, pixels=2).later(24 * 60), date=date_of(60))
    page = root / "report.html"
    used = cost(root, monitor("report", "--out", str(page)))
    size_kb = page.stat().st_size / 1e3
    print(f"report with 16 pictures         {used.cpu_s:.2f} CPU-s, {size_kb:.0f} kB")


def date_of(day: int) -> str:
    """Give the date of a day of the made log, which begins on 2026-01-02."""
    return str(np.datetime64("2026-01-02") + day)


def lay_tables(root: Path) -> None:
    """Write the same rows for both: two tables, and a project with a package and a log."""
    from monitor_log import MODEL, START_US, TEMPLATE, Watched, add_package, make_reference

    random = np.random.default_rng(0)
    then, now = random.normal(size=(2, COLUMNS, ROWS)).astype(np.float32)
    now[0] += 0.25
    names = [f"c{place}" for place in range(COLUMNS)]
    pq.write_table(pa.table(dict(zip(names, then, strict=True))), root / "then.parquet")
    pq.write_table(pa.table(dict(zip(names, now, strict=True))), root / "now.parquet")

    (root / "mlstack.yaml").write_text((TEMPLATE / "mlstack.yaml").read_text())
    side = add_package(root)
    predictions = np.asarray(["0", "1"])[random.integers(0, 2, ROWS)]
    write(
        side / "reference.json",
        make_reference(dict(zip(names, then, strict=True)), predictions),
    )
    logged = {name: [None] * ROWS for name in requests.BASE_COLUMNS} | {
        "prediction_id": [f"p{row:06}" for row in range(ROWS)],
        "ts_us": [START_US + row * 30_000 for row in range(ROWS)],
        "model": [MODEL] * ROWS,
        "version": [1] * ROWS,
        "status": [200] * ROWS,
        "latency_us": [900] * ROWS,
        "prediction": predictions.tolist(),
        "confidence": random.beta(20, 1, ROWS).tolist(),
    }
    logged |= {requests.FEATURE + name: one for name, one in zip(names, now, strict=True)}
    folder = Watched(root).layout.requests / requests.partition(MODEL, "2026-01-02", "10")
    folder.mkdir(parents=True)
    pq.write_table(
        pa.table(logged, schema=requests.schema(names)), folder / "part-1-1.parquet",
        compression="zstd",
    )  # fmt: skip


def beside_evidently(root: Path, rounds: int) -> None:
    """Print medians of a report, in turns, and the ratio."""
    lay_tables(root)
    peer = [str(HOME / "evidently" / "bin" / "python"), str(PEERS / "evidently_report.py")]
    peer += ["then.parquet", "now.parquet"]
    window = ["--window", str(ROWS)]
    cost(root, monitor("check", *window))  # the day is counted, once
    commands = {
        "mlstack   report": monitor("report", *window, "--out", "ours.html"),
        "Evidently report": [*peer, "theirs.html"],
        "Evidently JSON  ": [*peer, "theirs.json"],
    }
    found: dict[str, list[Cost]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            found[name].append(cost(root, command))
    middle = {
        name: [statistics.median(getattr(one, key) for one in each) for key in vars(each[0])]
        for name, each in found.items()
    }
    ours = middle["mlstack   report"]
    for name, (cpu_s, wall_s) in middle.items():
        print(
            f"{name}  {cpu_s:6.2f} CPU-s ({cpu_s / ours[0]:.1f}x), {wall_s:6.2f} s "
            f"({wall_s / ours[1]:.1f}x)"
        )
    for page in ("ours.html", "theirs.html"):
        print(f"{page}: {(root / page).stat().st_size / 1e3:,.0f} kB")


def main() -> None:
    """Print one line a measurement."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--rounds", type=int, default=3)
    given = asked.parse_args()
    sys.path.insert(0, str(TESTS))
    install("evidently")
    with tempfile.TemporaryDirectory() as folder:
        look(Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        beside_evidently(Path(folder), given.rounds)


if __name__ == "__main__":
    main()
