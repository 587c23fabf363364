"""Row diff of two Parquet files of 10M rows and 8 columns, against what people do instead.

python benchmarks/version_tables.py [ROWS] [--pandas PYTHON]

`--pandas` names a Python that has pandas and pyarrow; without one that peer is left out. Each runs
in a process of its own: CPU seconds, wall, peak memory; one that takes more than LIMIT_S seconds or
LIMIT_MB of memory is stopped, and said to have taken more.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

LIMIT_S = 600
LIMIT_MB = 8_000
MAKE = """
import duckdb, sys
rows, folder = int(sys.argv[1]), sys.argv[2]
c = duckdb.connect(config={"memory_limit": "1GB", "temp_directory": folder + "/spill"})
def rows_of(first, last):
    return f'''SELECT i::BIGINT AS id, (hash(i) % 30)::INTEGER AS label,
        (hash(i + 1) % 1000000) / 1000.0::DOUBLE AS a, (hash(i + 2) % 1000000) / 7.0::DOUBLE AS b,
        's' || (hash(i + 3) % 5000) AS city, (hash(i + 4) % 100)::INTEGER AS age,
        hash(i + 5) % 2 = 0 AS flag, 't' || hash(i + 6) AS token FROM range({first}, {last}) t(i)'''
few = rows // 1000
c.execute(f"COPY ({rows_of(0, rows)}) TO '{folder}/before.parquet' (COMPRESSION zstd)")
c.execute(f'''COPY (SELECT id, CASE WHEN id % 200 = 0 THEN (label + 1) % 30 ELSE label END AS label,
    CASE WHEN id % 300 = 0 THEN a + 1 ELSE a END AS a, b, city, age, flag, token
    FROM ({rows_of(few, rows + few)}) ORDER BY hash(id))
    TO '{folder}/after.parquet' (COMPRESSION zstd)''')
"""
OWN = """
import sys
from pathlib import Path
from mlstack.version import tables
folder = Path(sys.argv[1])
found = tables.compare(tables.Wanted("table.parquet", folder / "before.parquet",
    folder / "after.parquet", folder / "scratch", label="label"), tables.Watch())
print(found.rows_added, found.rows_removed, found.rows_changed)
"""
EXCEPT = """
import duckdb, sys
folder = sys.argv[1]
c = duckdb.connect(config={"threads": 2, "temp_directory": folder + "/spill"})
c.execute("SET enable_progress_bar = false")
one, other = (f"(FROM read_parquet('{folder}/{n}.parquet'))" for n in ("before", "after"))
for a, b in ((one, other), (other, one)):
    print(c.execute(f"SELECT count(*) FROM ({a} EXCEPT ALL {b})").fetchone()[0], end=" ")
"""
PANDAS = """
import pandas, sys
folder = sys.argv[1]
old, new = (pandas.read_parquet(f"{folder}/{n}.parquet") for n in ("before", "after"))
both = old.merge(new, on="id", how="outer", suffixes=("_x", "_y"), indicator=True)
match = both[both["_merge"] == "both"]
names = [n for n in old.columns if n != "id"]
changed = sum((match[f"{n}_x"] != match[f"{n}_y"]) for n in names) > 0
print((both["_merge"] == "right_only").sum(), (both["_merge"] == "left_only").sum(), changed.sum())
"""
ARROW = """
import pyarrow as pa, pyarrow.compute as pc, pyarrow.parquet as pq, sys
folder = sys.argv[1]
old, new = (pq.read_table(f"{folder}/{n}.parquet") for n in ("before", "after"))
names = [n for n in old.column_names if n != "id"]
old = old.rename_columns(["id", *(f"{n}_x" for n in names)]).append_column("was", pa.array([True] * old.num_rows))
new = new.rename_columns(["id", *(f"{n}_y" for n in names)]).append_column("is", pa.array([True] * new.num_rows))
both = old.join(new, "id", join_type="full outer")
match = both.filter(pc.and_(pc.is_valid(both["was"]), pc.is_valid(both["is"])))
changed = pc.not_equal(match["label_x"], match["label_y"])
for n in names[1:]:
    changed = pc.or_(changed, pc.not_equal(match[f"{n}_x"], match[f"{n}_y"]))
print(both["was"].null_count, both["is"].null_count, pc.sum(changed).as_py())
"""  # noqa: E501


@dataclass(frozen=True)
class Cost:
    """What a process took."""

    cpu_s: float
    wall_s: float
    peak_mb: float
    said: str
    finished: bool


def run(python: str, program: str, *arguments: str, limit_s: float) -> Cost:
    """Run a program, watch it, and stop it when it takes more than is allowed."""
    start = time.monotonic()
    child = subprocess.Popen(
        [python, "-c", program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    finished = True
    while (done := os.wait4(child.pid, os.WNOHANG))[0] == 0:
        pages = int(Path(f"/proc/{child.pid}/statm").read_text().split()[1])
        too_long = time.monotonic() - start > limit_s
        if finished and (too_long or pages * resource.getpagesize() > LIMIT_MB * 1e6):
            child.kill()
            finished = False
        time.sleep(0.05)
    _, status, used = done
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.stdout is not None
    said = child.stdout.read().decode().strip()
    return Cost(
        used.ru_utime + used.ru_stime,
        time.monotonic() - start,
        used.ru_maxrss / 1e3,
        said,
        finished and not child.returncode,
    )


def main() -> None:
    """Print a table, one line a way."""
    asked = argparse.ArgumentParser()
    asked.add_argument("rows", type=int, nargs="?", default=10_000_000)
    asked.add_argument("--pandas", metavar="PYTHON")
    given = asked.parse_args()
    ways = {
        "mlstack (keyed, all counts and examples)": (sys.executable, OWN),
        "duckdb, EXCEPT ALL both ways (counts)": (sys.executable, EXCEPT),
        "pyarrow, join and compare (counts)": (sys.executable, ARROW),
    }
    if given.pandas:
        ways["pandas, merge and compare (counts)"] = (given.pandas, PANDAS)
    costs = {}
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        run(sys.executable, MAKE, str(given.rows), folder, limit_s=LIMIT_S)
        for name, (python, program) in ways.items():
            costs[name] = run(python, program, folder, limit_s=LIMIT_S)
    own = next(iter(costs.values()))
    print(f"{given.rows:,} x {given.rows:,} rows, 8 columns")
    for name, cost in costs.items():
        more = "" if cost.finished else "stopped: more than "
        print(
            f"{name:42} {more}{cost.cpu_s:6.1f} CPU-s ({cost.cpu_s / own.cpu_s:.1f}x) "
            f"{cost.wall_s:6.1f} s  {cost.peak_mb:7.0f} MB ({cost.peak_mb / own.peak_mb:.1f}x)  "
            f"{cost.said}"
        )
    if own.peak_mb > 1000:
        sys.exit(json.dumps({"peak_mb": own.peak_mb, "limit_mb": 1000}))


if __name__ == "__main__":
    main()
