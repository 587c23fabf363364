"""CPU microseconds that the server spends on one request, and its start to the first 200.

    python benchmarks/serve_requests.py [PROJECT [SECONDS]]

PROJECT has a model package; without one, a digits project is made, trained and packed. The load
is a closed loop of 16 connections on loopback; it shares the machine with the server, so the CPU
time is the figure to trust and not the rate.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
import psutil

CONNECTIONS = 16


class Client(asyncio.Protocol):
    """Sends the same request again as soon as its answer is whole."""

    def __init__(self, request: bytes, stop: float) -> None:
        self.request, self.stop = request, stop
        self.done = asyncio.get_running_loop().create_future()
        self.buffer = b""
        self.count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.sent = time.perf_counter()
        self.seconds: list[float] = []
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, separator, body = self.buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        assert head.startswith(b"HTTP/1.1 200"), self.buffer
        if len(body) < int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]):
            return
        self.buffer = b""
        now = time.perf_counter()
        self.seconds.append(now - self.sent)
        if now > self.stop:
            self.transport.close()
            self.done.set_result(self.seconds)
            return
        self.sent = now
        self.transport.write(self.request)


async def load(host: str, port: int, request: bytes, seconds: float) -> list[float]:
    loop = asyncio.get_running_loop()
    stop = time.perf_counter() + seconds
    clients = [
        (await loop.create_connection(lambda: Client(request, stop), host, port))[1]
        for _ in range(CONNECTIONS)
    ]
    return [s for client in clients for s in await client.done]


def post(path: str, body: bytes, headers: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def cases(project: Path, url: str, name: str) -> dict[str, bytes]:
    made: dict[str, bytes] = {}
    image = next((project / "models" / name).glob("*/mlstack/golden/*")).read_bytes()
    made["image bytes"] = post("/predict", image)
    described = httpx.get(f"{url}/v2/models/{name}").json()["inputs"][0]
    shape = [1, *described["shape"][1:]]
    zeros = np.zeros(shape, np.uint8)
    tensor = {"name": described["name"], "shape": shape, "datatype": "UINT8"}
    text = json.dumps({"inputs": [{**tensor, "data": zeros.ravel().tolist()}]}).encode()
    made["V2 JSON"] = post(f"/v2/models/{name}/infer", text)
    binary = {"parameters": {"binary_data_size": zeros.nbytes}}
    head = json.dumps({"inputs": [{**tensor, **binary}]}).encode()
    header = f"inference-header-content-length: {len(head)}\r\n"
    made["V2 binary"] = post(f"/v2/models/{name}/infer", head + zeros.tobytes(), header)
    made["health"] = b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n"
    return made


def main() -> None:
    """Measure in the given project, or in one made for it."""
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 2.0
    if len(sys.argv) > 1:
        measure(Path(sys.argv[1]), seconds)
        return
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "digits"
        for words in (["init", str(project)], ["train"], ["export"]):
            where = project if project.is_dir() else Path(folder)
            subprocess.run(
                [sys.executable, "-m", "mlstack", *words, "--quiet"], cwd=where, check=True
            )
        measure(project, seconds)


def measure(project: Path, seconds: float) -> None:
    """Print one line a kind of request."""
    started = time.perf_counter()
    server = subprocess.Popen(
        [sys.executable, "-m", "mlstack", "serve", "--port", "0", "--json"],
        cwd=project,
        stdout=subprocess.PIPE,
    )
    try:
        said = json.loads(server.stdout.readline())
        httpx.get(said["url"] + "/health/ready").raise_for_status()
        process = psutil.Process(server.pid)
        used = process.cpu_times()
        print(f"start to first 200: {time.perf_counter() - started:.2f} s wall", end=", ")
        print(f"{used.user + used.system:.2f} s CPU; {process.memory_info().rss >> 20} MB resident")
        host, port = said["url"].removeprefix("http://").split(":")
        for name, request in cases(project, said["url"], said["model"]).items():
            before = process.cpu_times()
            times = asyncio.run(load(host, int(port), request, seconds))
            after = process.cpu_times()
            cpu = (after.user + after.system - before.user - before.system) / len(times) * 1e6
            p50, p99 = np.percentile(times, [50, 99]) * 1e3
            print(
                f"{name:12} {cpu:6.0f} us CPU a request  {len(times) / seconds:8.0f}/s"
                f"  p50 {p50:.2f} ms  p99 {p99:.2f} ms"
            )
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
