"""Overload, and changes of the model while it is asked."""

import threading
import time
from pathlib import Path
from typing import Any

import httpx
from serving import servers
from serving.load import Paced, closed, paced
from serving.servers import Case, Running

from mlstack.serve import live

CONNECTIONS = 512
SECONDS = 6.0
DEADLINE_S = 1.0


def overload(project: Path, home: Path, book: Any) -> None:
    """Ask twice as much as can be answered."""
    case = Case("cnn", "binary")
    call = servers.call("mlstack", case)
    with servers.running("mlstack", case, project, home) as server:
        closed(server.url, call, server.root, c=64, seconds=2)  # warm
        # a client that is as dear as the one of the overload: it shares the cores
        capacity = max(_capacity(server, call, rate) for rate in (400, 600, 800, 1000, 1200))
        got = paced(server.url, call, rate=2 * capacity, seconds=SECONDS, connections=CONNECTIONS)
    book.add("overload capacity", capacity)
    book.add("overload goodput", got.goodput() / capacity)
    book.add("overload p99", got.p99_ms() / 1e3 / DEADLINE_S)
    print(f"overload: capacity {capacity:.0f}/s, {_says(got)}")


def _capacity(server: Running, call: Any, rate: float) -> float:
    return paced(server.url, call, rate=rate, seconds=2, connections=64).goodput()


def reloads(project: Path, home: Path, book: Any, *, count: int) -> None:
    """Promote and roll back again and again at 70 % of what can be answered."""
    case = Case("mlp", "json")
    call = servers.call("mlstack", case)
    folder = project / "models" / case.kind
    with servers.running("mlstack", case, project, home) as server:
        rate = 0.7 * closed(server.url, call, server.root, c=64, seconds=2).rps
        rate = min(rate, 5000.0)  # more than the client in Python sends on time
        calm = paced(server.url, call, rate=rate, seconds=5, connections=64)
        results: list[Paced] = []
        seconds = 0.35 * count + 1
        asking = threading.Thread(
            target=lambda: results.append(
                paced(server.url, call, rate=rate, seconds=seconds, connections=64)
            )
        )
        asking.start()
        done = _change(folder, server, count, until=time.monotonic() + seconds)
        asking.join()
    got = results[0]
    failed = sum(n for code, n in got.codes.items() if code != 200) + got.unanswered
    book.add("reload failed", failed)
    print(
        f"reloads: {done} changes at {rate:.0f}/s, {_says(got)}; "
        f"p99 without changes {calm.p99_ms():.1f} ms"
    )


def _change(folder: Path, server: Running, count: int, *, until: float) -> int:
    """Promote 2, promote 1, roll back, ...; wait until each is what answers."""
    done = 0
    while done < count and time.monotonic() < until:
        if done % 3 == 2:
            wanted = live.roll_back(folder).live
        else:
            current = live.current(folder).live
            wanted = live.promote(folder, 2 if current == 1 else 1).live
        while time.monotonic() < until:
            if httpx.get(f"{server.url}/health/ready").json().get("version") == wanted:
                done += 1
                break
            time.sleep(0.02)
    return done


def _says(got: Paced) -> str:
    return (
        f"{got.goodput():.0f}/s answered, codes {dict(sorted(got.codes.items()))}, "
        f"{got.unanswered} unanswered, p99 {got.p99_ms():.1f} ms"
    )
