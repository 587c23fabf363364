"""False alarms and delays of drift alarms on the same streams of days: mlstack, Evidently, NannyML.

    python benchmarks/monitor_drift.py [--streams 20] [--rows 1000]

Twenty columns of normal values. The mean of each differs from day to day as in real traffic: by a
weekly season and by days that resemble the one before (AR 1, 0.6), of a standard deviation of
`wobble` together. 28 days are the reference, then come 60 without a change, then one column of
twenty is moved for 20 days. Each tool alarms by its defaults, when any column does; mlstack goes on
learning from the log, the peers keep the reference that they were given. Evidently takes three
minutes of CPU for one stream, so it sees the first one of each case alone.

The peers live in environments of their own below MLSTACK_BENCH_MONITOR
(/tmp/mlstack-bench-monitor), made when they are not there; both need a pandas below 3 today, and
NannyML a package that it does not name.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlstack.stats import binning, sequential

HOME = Path(os.environ.get("MLSTACK_BENCH_MONITOR", "/tmp/mlstack-bench-monitor"))
PEERS = Path(__file__).parent / "monitoring"
NEEDS = {
    "evidently": ["evidently==0.7.23", "pandas<3"],
    "nannyml": ["nannyml==0.13.1", "statsmodels", "pandas<3"],
}
COLUMNS, REFERENCE, CALM, MOVED = 20, 28, 60, 20
LEAST = 0.02  # `monitor.drift.gradual`
YEARS = 40
CASES = [(0.0, 0.2), (0.03, 0.2), (0.05, 0.2), (0.05, 0.4)]  # wobble, move, in deviations


@dataclass(frozen=True)
class Watched:
    """What one tool said of one stream: shape (days after the reference, columns)."""

    alarms: np.ndarray
    cpu_s: float

    def false_days(self) -> int:
        """Count the days of the calm ones on which any column alarmed."""
        return int(self.alarms[:CALM].any(axis=1).sum())

    def delay(self) -> int | None:
        """Count the days until the moved column alarmed; None when it never did."""
        days = np.flatnonzero(self.alarms[CALM:, 0])
        return int(days[0]) + 1 if len(days) else None


def wobbling(days: int, wobble: float, random: np.random.Generator) -> np.ndarray:
    """Give the daily means of all columns, shape (days, columns)."""
    season, noise = random.normal(size=(7, COLUMNS)), random.normal(size=(days, COLUMNS))
    drawn = [noise[0]]
    for one in noise[1:]:
        drawn.append(0.6 * drawn[-1] + 0.8 * one)
    weekly = (season - season.mean(axis=0))[np.arange(days) % 7]
    return wobble * (weekly + np.asarray(drawn)) / np.sqrt(2)


def stream(rows: int, wobble: float, move: float, seed: int) -> np.ndarray:
    """Give values of shape (days, rows, columns)."""
    random = np.random.default_rng(seed)
    means = wobbling(REFERENCE + CALM + MOVED, wobble, random)
    means[REFERENCE + CALM :, 0] += move
    shape = (len(means), rows, COLUMNS)
    return (means[:, None] + random.standard_normal(shape, dtype=np.float32)).astype(np.float32)


def watch(values: np.ndarray) -> Watched:
    """Let mlstack count each day over the bins of the first one, and judge."""
    begun = time.process_time()
    courses = []
    for column in range(values.shape[2]):
        edges = binning.edges(values[0, :, column])
        counts = np.stack([binning.counts(day, edges)[0] for day in values[:, :, column]])
        courses.append(sequential.course(counts, "KS"))
    spoken = sequential.evidence(courses, LEAST)
    alarms = (spoken.mean(axis=1, keepdims=True) >= sequential.RATE) & (spoken >= sequential.RATE)
    return Watched(alarms[REFERENCE:], time.process_time() - begun)


def peer(name: str, values: np.ndarray) -> Watched:
    """Let a peer judge each day in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stream.npy"
        np.save(path, values)
        done = subprocess.run(
            [HOME / name / "bin" / "python", PEERS / f"{name}_days.py", path, str(REFERENCE)],
            capture_output=True, text=True, check=True,
            env=os.environ | {"NML_DISABLE_USAGE_LOGGING": "1", "DO_NOT_TRACK": "1"},
        )  # fmt: skip
    said = json.loads(done.stdout.strip().splitlines()[-1])
    return Watched(np.asarray(said["alarms"]), said["cpu_s"])


def install(name: str) -> None:
    """Make the environment of a peer, unless it is there."""
    place = HOME / name
    if (place / "installed").is_file():
        return
    venv.create(place, with_pip=True)
    pip = [place / "bin" / "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, *NEEDS[name]], check=True)
    (place / "installed").touch()


def report(case: tuple[float, float], name: str, found: list[Watched]) -> None:
    """Print what one tool said of all streams of one case."""
    delays = [one.delay() for one in found]
    known = sorted(one for one in delays if one is not None)
    middle = f"{known[len(known) // 2]} ({known[-1]})" if known else "-"
    false_days = [one.false_days() for one in found]
    in_streams = sum(days > 0 for days in false_days)
    cpu_s = np.median([one.cpu_s for one in found])
    print(
        f"{case[0]:6} {case[1]:6}  {name:10} {np.mean(false_days):6.1f} of {CALM} in {in_streams:2}"
        f"  {len(known):2} of {len(found):2}  {middle:>7}  {cpu_s:8.2f}",
        flush=True,
    )


def year_without_change(rows: int) -> None:
    """Print how often mlstack alarms in a year without a change, over many years."""
    for wobble in (0.0, 0.05, 0.1):
        days, begun = [], []
        for seed in range(YEARS):
            random = np.random.default_rng(10_000 + seed)
            means = wobbling(REFERENCE + 365, wobble, random)
            edges = np.quantile(random.standard_normal(rows), np.linspace(0, 1, 65)[1:-1])
            courses = []
            for column in means.T:
                counts = [
                    binning.counts(mean + random.standard_normal(rows), edges)[0] for mean in column
                ]
                courses.append(sequential.course(np.stack(counts), "KS"))
            alarms = sequential.evidence(courses, LEAST).mean(axis=1) >= sequential.RATE
            days.append(alarms.sum())
            begun.append((np.diff(alarms.astype(int), prepend=0) == 1).sum())
        share = np.mean(np.asarray(days) > 0)
        print(
            f"wobble {wobble}: {np.mean(begun):.2f} alarms in a year, {np.mean(days):.2f} days "
            f"of it; {share:.0%} of {YEARS} years had any",
            flush=True,
        )


def main() -> None:
    """Print one line for each case and tool, and how calm a year without a change is."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--streams", type=int, default=20)
    asked.add_argument("--rows", type=int, default=1000)
    given = asked.parse_args()
    for name in NEEDS:
        install(name)
    print(f"{given.rows} rows a day, {COLUMNS} columns, {given.streams} streams a case")
    print("wobble   move              false days, streams  found   delay (worst)  CPU s")
    for case in CASES:
        streams = [stream(given.rows, *case, seed) for seed in range(given.streams)]
        report(case, "mlstack", [watch(values) for values in streams])
        report(case, "nannyml", [peer("nannyml", values) for values in streams])
        report(case, "evidently", [peer("evidently", streams[0])])
    year_without_change(given.rows)


if __name__ == "__main__":
    sys.exit(main())
