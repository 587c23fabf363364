"""`mlstack serve` beside its peers: rates, latencies, CPU, start, memory, overload and reloads.

    python benchmarks/serve.py [--rounds 3] [--seconds 2] [--peers FastAPI,mosec] [--changes 100]

Each peer lives in a virtualenv of its own below MLSTACK_BENCH_SERVE (/tmp/mlstack-bench-serve),
made by pip on the first run (minutes, 2 GB). Servers run one after the other, in turns over the
rounds; figures are medians, ratios are medians of the ratios within a round. `wrk` and the servers
share the machine: CPU microseconds of the whole server tree are the steadiest column. The server
of mlstack runs as it comes: request log, metrics, validation and limits on.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

from serving import changes, packages, servers
from serving.load import Measured, closed, memory_mb, need_wrk
from serving.servers import Case

HOME = Path(os.environ.get("MLSTACK_BENCH_SERVE", "/tmp/mlstack-bench-serve"))
MLP, ROWS, PICTURES = Case("mlp", "json"), Case("cnn", "binary"), Case("pictures", "jpeg")
SEEN = {  # what each server is asked; V2 is the only JSON that MLServer and Triton take
    "mlstack": [
        *(MLP, Case("mlp", "v2-json"), Case("mlp", "binary")),
        *(ROWS, Case("cnn", "json"), PICTURES),
    ],
    "FastAPI": [MLP, Case("cnn", "json")],
    "LitServe": [MLP, Case("cnn", "json")],
    "mosec": [MLP, Case("mlp", "binary"), Case("cnn", "json"), ROWS],
    "BentoML": [MLP, Case("cnn", "json")],
    "MLServer": [Case("mlp", "v2-json"), Case("cnn", "v2-json")],
    "pytriton": [Case("mlp", "v2-json"), Case("mlp", "binary"), Case("cnn", "v2-json"), ROWS],
    servers.CEILING: [MLP, ROWS, Case("cnn", "json"), PICTURES],
}
MANY = 64


class Book:
    """Every figure of every round, by name."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = defaultdict(list)
        self.missing: dict[str, str] = {}

    def add(self, key: str, value: float) -> None:
        """Write one figure down; each key once a round."""
        self.values[key].append(value)

    def get(self, key: str) -> float:
        """Give the median; nan where it was never measured."""
        return median(self.values[key]) if self.values[key] else float("nan")

    def ratio(self, one: str, other: str) -> float:
        """Give the median of the ratios within a round."""
        pairs = zip(self.values[one], self.values[other], strict=False)
        found = [a / b for a, b in pairs if b]
        return median(found) if found else float("nan")


def main() -> None:
    """Measure everything and print the tables."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--seconds", type=float, default=2.0)
    words.add_argument("--peers", default=",".join(servers.NEEDS))
    words.add_argument("--changes", type=int, default=100, help="reloads under load")
    options = words.parse_args()
    need_wrk()
    started = time.perf_counter()
    book = Book()
    HOME.mkdir(parents=True, exist_ok=True)
    names = [*_installed([n for n in options.peers.split(",") if n], book), "mlstack"]
    with tempfile.TemporaryDirectory() as folder:
        projects = {
            kind: packages.make_project(kind, Path(folder), packages=2) for kind in packages.CLASSES
        }
        for turn in range(options.rounds):
            for name in names if turn % 2 == 0 else reversed(names):
                _measure(name, projects, options.seconds, book)
            for kind in ("cnn", "pictures"):
                _raw(projects[kind], kind, options.seconds, book)
            print(f"round {turn + 1} done", file=sys.stderr)
        settings = f"serve: {{batching: {{deadline_ms: {changes.DEADLINE_S * 1000:g}}}}}\n"
        busy = packages.make_project("cnn", Path(folder) / "busy", settings=settings)
        changes.overload(busy, HOME, book)
        changes.reloads(projects["mlp"], HOME, book, count=options.changes)
    _print(names, book)
    print(f"\ntook {(time.perf_counter() - started) / 60:.1f} min")


def _installed(wanted: list[str], book: Book) -> list[str]:
    for name in wanted:
        if problem := servers.install(name, HOME):
            book.missing[name] = f"does not install: {problem}"
    return [name for name in wanted if name not in book.missing]


def _measure(name: str, projects: dict[str, Path], seconds: float, book: Book) -> None:
    for case in SEEN[name]:
        project = projects[case.kind]
        try:
            with servers.running(name, case, project, HOME) as server:
                graph = project / "models" / case.kind / "1" / "model.onnx"
                servers.check(server, case, graph)
                key = f"{name} {case.kind} {case.payload}"
                if case.kind == "mlp":
                    book.add(f"{key} start", server.start_s)
                    book.add(f"{key} memory", memory_mb(server.root))
                call = servers.call(name, case)
                for c in (1, MANY):
                    _keep(
                        book,
                        f"{key} c{c}",
                        closed(server.url, call, server.root, c=c, seconds=seconds),
                    )
        except (RuntimeError, AssertionError) as error:
            book.missing[f"{name} {case.kind} {case.payload}"] = str(error)[:200]


def _keep(book: Book, key: str, got: Measured) -> None:
    for figure in ("rps", "p50_ms", "p99_ms", "cpu_us", "failed"):
        book.add(f"{key} {figure}", getattr(got, figure))


def _raw(project: Path, kind: str, seconds: float, book: Book) -> None:
    graph = project / "models" / kind / "1" / "model.onnx"
    script = Path(__file__).parent / "serving" / "raw.py"
    command = [sys.executable, str(script), str(graph), kind, f"{seconds / 2:g}"]
    said = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    book.add(f"raw {kind} rps", said["rows_per_s"])
    book.add(f"raw {kind} cpu_us", said["cpu_us"])


def _print(names: list[str], book: Book) -> None:
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}; peers as pinned:", end=" ")
    print("; ".join(" ".join(servers.NEEDS[n][:1]) for n in names if n in servers.NEEDS))
    print("\n| server | model, payload | c=1 p50 / p99 ms | c=64 rps | p50 / p99 ms | CPU us |")
    print("|---|---|---|---|---|---|")
    for name in names:
        for case in SEEN[name]:
            key = f"{name} {case.kind} {case.payload}"
            if not book.values[f"{key} c{MANY} rps"]:
                continue
            one, many = f"{key} c1", f"{key} c{MANY}"
            failed = sum(book.values[f"{many} failed"]) + sum(book.values[f"{one} failed"])
            print(
                f"| {name} | {case.kind} {case.payload} "
                f"| {book.get(f'{one} p50_ms'):.2f} / {book.get(f'{one} p99_ms'):.2f} "
                f"| {book.get(f'{many} rps'):.0f} "
                f"| {book.get(f'{many} p50_ms'):.1f} / {book.get(f'{many} p99_ms'):.1f} "
                f"| {book.get(f'{many} cpu_us'):.0f} |" + (f" {failed:.0f} failed" * (failed > 0))
            )
    for kind in ("cnn", "pictures"):
        figures = book.get(f"raw {kind} rps"), book.get(f"raw {kind} cpu_us")
        print(f"| raw session | {kind} | | {figures[0]:.0f} | | {figures[1]:.0f} |")
    _print_ceiling(book)
    for what, why in book.missing.items():
        print(f"not measured: {what}: {why}")
    print("\n| asked for | at least | measured | |\n|---|---|---|---|")
    for text, limit, value, is_most in _targets(book):
        reached = value <= limit if is_most else value >= limit
        word = "not measured" if value != value else "reached" if reached else "missed"
        print(f"| {text} | {'<=' if is_most else '>='} {limit:g} | {value:.3g} | {word} |")


def _print_ceiling(book: Book) -> None:
    """Print what a server that does nothing else reaches of the raw session, and of which peers."""
    asked = [("binary", "raw cnn rps", "raw"), ("json", "raw cnn rps", "raw")]
    asked += [("jpeg", "raw pictures rps", "raw")]
    asked += [
        ("binary", f"{name} cnn {payload} c{MANY} rps", f"{name} {payload}")
        for name, payload in (("pytriton", "binary"), ("BentoML", "json"), ("MLServer", "v2-json"))
    ]
    found = []
    for payload, other, name in asked:
        kind = "pictures" if payload == "jpeg" else "cnn"
        ratio = book.ratio(f"{servers.CEILING} {kind} {payload} c{MANY} rps", other)
        found.append(f"{payload} {ratio:.2f} of {name}")
    start = book.ratio(f"{servers.CEILING} mlp json start", "FastAPI mlp json start")
    print("\nthe ceiling (a bare server, CNN): " + ", ".join(found), end="")
    print(f"; start {start:.2f} of FastAPI's")


def _targets(book: Book) -> list[tuple[str, float, float, bool]]:
    """List what issue 6 asks: text, limit, value, and whether the limit is the most."""
    mlp, rows = f"mlstack mlp json c{MANY} rps", f"mlstack cnn binary c{MANY} rps"
    cpu = f"mlp json c{MANY} cpu_us"
    found = [
        (f"MLP JSON, requests a second against {name}", limit, f"{name} mlp json c{MANY} rps")
        for name, limit in (("FastAPI", 10), ("mosec", 1.5), ("LitServe", 20))
    ]
    asked = [(text, limit, book.ratio(mlp, other), False) for text, limit, other in found]
    for name, limit in (("FastAPI", 10.0), ("mosec", 1.5), ("LitServe", 20.0)):
        value = book.ratio(f"{name} {cpu}", f"mlstack {cpu}")
        asked.append((f"the same, CPU of {name} by ours", limit, value, False))
    asked.append(("CNN binary against raw", 0.92, book.ratio(rows, "raw cnn rps"), False))
    others = [("pytriton", "binary", 1.3), ("LitServe", "json", 4), ("BentoML", "json", 4)]
    for name, payload, limit in [*others, ("MLServer", "v2-json", 4)]:
        value = book.ratio(rows, f"{name} cnn {payload} c{MANY} rps")
        asked.append((f"CNN binary against {name} {payload}", limit, value, False))
    json_rows = f"mlstack cnn json c{MANY} rps"
    asked.append(("CNN JSON floats against raw", 0.78, book.ratio(json_rows, "raw cnn rps"), False))
    jpeg = book.ratio(f"mlstack pictures jpeg c{MANY} rps", "raw pictures rps")
    asked.append(("CNN JPEG against raw", 0.87, jpeg, False))
    p99s = [
        book.ratio("mlstack mlp json c1 p99_ms", f"{name} mlp {payload} c1 p99_ms")
        for name in servers.NEEDS
        if name != servers.CEILING
        for payload in ("json", "v2-json")
        if book.values[f"{name} mlp {payload} c1 p99_ms"]
    ]
    asked.append(
        (
            "MLP, p99 of one connection by that of the best peer",
            1,
            max(p99s, default=float("nan")),
            True,
        )
    )
    start = book.ratio("mlstack mlp json start", "FastAPI mlp json start")
    asked.append(("start to the first 200 by FastAPI's", 0.4, start, True))
    asked.append(("idle memory, MB", 95, book.get("mlstack mlp json memory"), True))
    asked.append(("2x overload: goodput by capacity", 0.95, book.get("overload goodput"), False))
    asked.append(
        ("2x overload: p99 of what is answered by the deadline", 1, book.get("overload p99"), True)
    )
    asked.append(("failed requests in reloads at 70 % load", 0, book.get("reload failed"), True))
    return asked


if __name__ == "__main__":
    main()
