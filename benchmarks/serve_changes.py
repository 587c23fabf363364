"""Promote, roll back, canary and shadow a hundred times under load: failed requests, and latency.

    python benchmarks/serve_changes.py [CHANGES]

Eight clients ask without a pause (so more than the 70 % of the goal) and compare each answer with
what the package says in this process; a change waits until the server answers by it. Ends with 1 if
one request failed or was answered wrongly.
"""

import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "serve"))

import serving

from mlstack.records.base import read
from mlstack.records.package import Live
from mlstack.serve import live

CLIENTS = 8
QUIET_S = 10.0
WORK = 400  # about 2 ms of arithmetic a call: dear enough for a runner thread and queues


class Load:
    """What the clients saw: seconds of each answer and when, and whatever was wrong."""

    def __init__(self, url: str, images: list[bytes], truths: dict[int, list[list[float]]]) -> None:
        self.url, self.images, self.truths = url, images, truths
        self.seen: list[tuple[float, float]] = []
        self.wrong: list[object] = []
        self.over = threading.Event()

    def ask(self, which: int) -> None:
        with httpx.Client(base_url=self.url, timeout=30) as http:
            while not self.over.is_set():
                begun = time.perf_counter()
                try:
                    answer = http.post("/predict", content=self.images[which])
                except httpx.HTTPError as error:
                    self.wrong.append(repr(error))
                    continue
                self.seen.append((begun, time.perf_counter() - begun))
                if answer.status_code != 200:
                    self.wrong.append(answer.text)
                    continue
                body = answer.json()
                truth = self.truths[body["version"]][which]
                if not np.allclose(list(body["probabilities"].values()), truth, atol=1e-5):
                    self.wrong.append(body)


def change(folder: Path, number: int) -> None:
    match number % 4:
        case 0:
            live.promote(folder, 2)
        case 1:
            live.set_canary(folder, 3, 30)
        case 2:
            live.set_shadow(folder, 1, 100)
        case 3:
            live.roll_back(folder)


def wait_for(url: str, wanted: Live) -> None:
    while True:
        health = httpx.get(f"{url}/health/ready", timeout=30).json()
        told = health["version"], health["canary"], health["shadow"]
        if told == (wanted.live, wanted.canary, wanted.shadow):
            return
        time.sleep(0.02)


def quantiles(seen: list[tuple[float, float]], begin: float, end: float) -> str:
    seconds = [s for at, s in seen if begin <= at < end]
    p50, p99 = np.quantile(seconds, [0.5, 0.99]) * 1000
    rate = len(seconds) / (end - begin)
    return f"{len(seconds):>8,} requests {rate:>7.0f}/s   p50 {p50:6.1f} ms   p99 {p99:6.1f} ms"


def main() -> int:
    changes = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        settings = "serve: {traffic: {rollback: {auto: false}}}\n"
        (root / "mlstack.yaml").write_text(serving.CONFIG + settings)
        folder = root / "models" / serving.NAME
        images = [serving.make_image(root / f"{i}.png", 100 + i) for i in range(CLIENTS)]
        truths: dict[int, list[list[float]]] = {}
        for number in (1, 2, 3):
            package = serving.make_package(
                root, number=number, seed=number, kind=serving.Kind(work=WORK)
            )
            truths[number] = [serving.expected(package, one).tolist() for one in images]
        live.promote(folder, 1)
        server = serving.start(root)
        load = Load(server.url, images, truths)
        with ThreadPoolExecutor(CLIENTS) as pool:
            asking = [pool.submit(load.ask, which) for which in range(CLIENTS)]
            begun = time.perf_counter()
            time.sleep(QUIET_S)
            quiet = time.perf_counter()
            for number in range(changes):
                change(folder, number)
                wait_for(server.url, read(folder / "live.json", Live))
            changed = time.perf_counter()
            load.over.set()
            for one in asking:
                one.result()
        serving.end(server)
    print(f"no change          {quantiles(load.seen, begun, quiet)}")
    print(f"{changes} changes{quantiles(load.seen, quiet, changed):>75}")
    print(f"failed or wrong: {len(load.wrong)}")
    for one in load.wrong[:3]:
        print(one)
    return bool(load.wrong)


if __name__ == "__main__":
    sys.exit(main())
