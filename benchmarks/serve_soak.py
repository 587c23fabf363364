"""Minutes of mixed load with changes of the model: every answer checked, memory watched.

    python benchmarks/serve_soak.py [MINUTES]

Six clients send what is good (JSON, V2 JSON, binary tensors, batches, pictures), two send what is
bad or hang up in the middle, one promotes and rolls back. Each answer is compared with the raw
session of the version that it names. It ends with 1 when an answer was wrong, a good request
failed, or memory between two changes grew by more than 10 MB from the second third to the last.
"""

import itertools
import json
import random
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
from serving import packages, servers
from serving.servers import Case

from mlstack.serve import live

HOME = Path(tempfile.gettempdir()) / "mlstack-bench-serve"
GROWTH_MB = 10.0
CHANGE_S = 5.0  # from one change of the model to the next
KINDS = ("mlp", "pictures")
TOLERANCE = 2e-5


class Soak:
    """One server under load."""

    def __init__(self, kind: str, project: Path, url: str, until: float) -> None:
        self.kind, self.project, self.url, self.until = kind, project, url, until
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.folder = project / "models" / kind
        graphs = {number: self.folder / str(number) / "model.onnx" for number in (1, 2)}
        self.sessions = {number: packages.session(graph, 1) for number, graph in graphs.items()}
        self.lock = threading.Lock()

    def truth(self, version: int, rows: np.ndarray) -> np.ndarray:
        """Answer by the raw session."""
        return self.sessions[version].run(["probabilities"], {"x": rows})[0]

    def note(self, what: str, problem: str = "") -> None:
        """Count, and keep what was wrong."""
        with self.lock:
            self.counts[what] += 1
            if problem:
                self.wrong.append(f"{what}: {problem[:200]}")

    def good(self, seed: int) -> None:
        """Ask in every way in turn, and compare."""
        random_ = np.random.default_rng(seed)
        ways: list[Callable[[httpx.Client, np.ndarray], tuple[int, np.ndarray]]] = [
            self.predict,
            self.infer_binary,
            self.infer_json,
        ]
        with httpx.Client(base_url=self.url, timeout=60) as client:
            for way in itertools.cycle(ways):
                if time.monotonic() > self.until:
                    return
                rows = np.concatenate(
                    [packages.example(self.kind, int(n)) for n in random_.integers(0, 1000, 3)]
                )[: int(random_.integers(1, 4))]
                try:
                    version, got = way(client, rows)
                except (httpx.HTTPError, AssertionError, KeyError) as error:
                    self.note("failed", repr(error))
                    continue
                expected = self.truth(version, rows)
                off = float(np.abs(got - expected).max())
                is_wrong = off > TOLERANCE
                self.note(way.__name__, f"version {version} off by {off}" if is_wrong else "")

    def predict(self, client: httpx.Client, rows: np.ndarray) -> tuple[int, np.ndarray]:
        """Ask with nested lists."""
        body = client.post("/predict", json={"inputs": rows.tolist()}).json()
        said = [list(one["probabilities"].values()) for one in body["predictions"]]
        return body["version"], np.array(said)

    def infer_binary(self, client: httpx.Client, rows: np.ndarray) -> tuple[int, np.ndarray]:
        """Ask with the bytes of a tensor, and take bytes."""
        tensor = self._tensor(rows) | {"parameters": {"binary_data_size": rows.nbytes}}
        wanted = [{"name": "probabilities", "parameters": {"binary_data": True}}]
        head = json.dumps({"inputs": [tensor], "outputs": wanted}).encode()
        headers = {"Inference-Header-Content-Length": str(len(head))}
        answer = client.post(self._infer(), content=head + rows.tobytes(), headers=headers)
        assert answer.status_code == 200, answer.text
        start = int(answer.headers["inference-header-content-length"])
        got = np.frombuffer(answer.content[start:], np.float32).reshape(len(rows), -1)
        return int(json.loads(answer.content[:start])["model_version"]), got

    def infer_json(self, client: httpx.Client, rows: np.ndarray) -> tuple[int, np.ndarray]:
        """Ask with a flat list."""
        tensor = self._tensor(rows) | {"data": rows.ravel().tolist()}
        body = client.post(self._infer(), json={"inputs": [tensor]}).json()
        output = next(one for one in body["outputs"] if one["name"] == "probabilities")
        return int(body["model_version"]), np.array(output["data"]).reshape(output["shape"])

    def _tensor(self, rows: np.ndarray) -> dict[str, object]:
        datatype = "UINT8" if rows.dtype == np.uint8 else "FP32"
        return {"name": "x", "shape": list(rows.shape), "datatype": datatype}

    def _infer(self) -> str:
        return f"/v2/models/{self.kind}/infer"

    def bad(self, seed: int) -> None:
        """Send what is wrong, and hang up in the middle."""
        random_ = random.Random(seed)
        host, port = self.url.removeprefix("http://").split(":")
        good = servers.call("mlstack", Case(self.kind, "jpeg" if self.kind != "mlp" else "json"))
        while time.monotonic() < self.until:
            sent = bytearray(good.raw())
            for _ in range(random_.randrange(4)):
                sent[random_.randrange(len(sent))] = random_.randrange(256)
            with socket.create_connection((host, int(port)), timeout=10) as connection:
                connection.sendall(sent[: random_.randrange(1, len(sent) + 1)])
                if random_.random() < 0.5:
                    connection.shutdown(socket.SHUT_WR)
                    said = connection.recv(100)
                    is_ours = said.startswith(b"HTTP/1.1 5")
                    self.note("bad", said.decode("latin-1") if is_ours else "")
            time.sleep(0.005)

    def change(self) -> None:
        """Promote and roll back."""
        while time.monotonic() < self.until:
            current = live.current(self.folder).live
            live.promote(self.folder, 2 if current == 1 else 1)
            self.note("changes")
            time.sleep(CHANGE_S)


def soak(kind: str, project: Path, seconds: float) -> bool:
    """Load one server; tell whether all was well."""
    HOME.mkdir(exist_ok=True)
    with servers.running("mlstack", Case(kind, "json"), project, HOME) as server:
        started = time.monotonic()
        run = Soak(kind, project, server.url, started + seconds)
        work = [threading.Thread(target=run.good, args=(seed,)) for seed in range(6)]
        work += [threading.Thread(target=run.bad, args=(seed,)) for seed in range(2)]
        work.append(threading.Thread(target=run.change))
        for thread in work:
            thread.start()
        sizes: list[tuple[float, float]] = []
        while time.monotonic() < run.until:
            sizes.append((time.monotonic() - started, server.root.memory_info().rss / 1e6))
            time.sleep(0.2)
        for thread in work:
            thread.join()
    early = _between_changes(sizes, seconds / 3, seconds * 2 / 3)
    late = _between_changes(sizes, seconds * 2 / 3, seconds)
    growth = late - early
    print(f"{kind}: {seconds:.0f} s, {dict(run.counts)}")
    most = max(mb for _, mb in sizes)
    print(f"  memory between changes {early:.0f} -> {late:.0f} MB, during one at most {most:.0f}")
    print(f"  {len(run.wrong)} wrong or failed" + "".join(f"\n  {line}" for line in run.wrong[:5]))
    return not run.wrong and growth < GROWTH_MB


def _between_changes(sizes: list[tuple[float, float]], start: float, end: float) -> float:
    """Give the MB when one model is loaded: the median of the least of each change's seconds."""
    least: dict[int, float] = {}
    for at, mb in sizes:
        if start <= at < end:
            slot = int(at / CHANGE_S)
            least[slot] = min(mb, least.get(slot, mb))
    return float(np.median(list(least.values())))


def main() -> int:
    """Load a tiny model, then one of pictures, half of the time each."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    with tempfile.TemporaryDirectory() as folder:
        projects = {kind: packages.make_project(kind, Path(folder), packages=2) for kind in KINDS}
        done = [soak(kind, projects[kind], minutes * 60 / len(KINDS)) for kind in KINDS]
    return 0 if all(done) else 1


if __name__ == "__main__":
    sys.exit(main())
