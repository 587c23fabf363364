"""Ask a package through a whole server: latency and throughput by payload and by connections."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import uvloop

from mlstack.errors import StepError
from mlstack.records.base import write
from mlstack.records.layout import Layout
from mlstack.records.server import WORKER, BatchingSpec, LogSpec, ServerSpec
from mlstack.serve.results import Load
from mlstack.serve.worker.model import Model

CONNECTIONS = (1, 4, 16, 64)
SECONDS = 0.4
QUEUE = 4096


@dataclass(frozen=True)
class Payload:
    """One way to send one example."""

    name: str
    request: bytes


class _Client(asyncio.Protocol):
    """Sends the same request again as soon as its answer is whole."""

    def __init__(self, request: bytes, stop: float) -> None:
        self._request, self._stop = request, stop
        self._buffer = b""
        self._sent = 0.0
        self.seconds: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._send()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        size = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if not separator or len(body) < int(size):
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self._end(StepError(f"the server refuses it: {body[:200]!r}"))
            return
        self._buffer = b""
        now = time.perf_counter()
        self.seconds.append(now - self._sent)
        if now < self._stop:
            self._send()
        else:
            self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(StepError("the server closed the connection"))

    def _end(self, error: Exception | None) -> None:
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)
        self._transport.close()


def rehearse(package: Path, device: str, model: Model, example: list[np.ndarray]) -> Iterator[Load]:
    """Start a server of the package on loopback, and ask it for an example; nothing is logged.

    Raises:
        StepError: it does not start, or refuses what it is asked.
    """
    with _server(package, device, model) as port:
        for payload in payloads(package, model, example):
            for connections in CONNECTIONS:
                seconds = uvloop.run(_ask(port, payload.request, connections))
                p50, p99 = np.percentile(seconds, [50, 99])
                yield Load(
                    payload=payload.name,
                    connections=connections,
                    p50_ms=round(float(p50) * 1e3, 3),
                    p99_ms=round(float(p99) * 1e3, 3),
                    requests_per_s=round(len(seconds) / SECONDS, 1),
                )


def payloads(package: Path, model: Model, example: list[np.ndarray]) -> list[Payload]:
    """Write an example as bytes and as JSON, and a golden one as the file that it came from."""
    found = [_binary(model, example), _json(model, example)]
    files = sorted((package / "mlstack" / "golden").glob("*"))
    if model.spec is not None and files:
        found.append(Payload("file", _post("/predict", files[0].read_bytes(), {})))
    return found


def _binary(model: Model, arrays: list[np.ndarray]) -> Payload:
    contents = [array.tobytes() for array in arrays]
    inputs = [
        {
            "name": tensor.name,
            "shape": list(array.shape),
            "datatype": tensor.datatype,
            "parameters": {"binary_data_size": len(content)},
        }
        for tensor, array, content in zip(model.signature.inputs, arrays, contents, strict=True)
    ]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    length = {"inference-header-content-length": str(len(head))}
    body = b"".join([head, *contents])
    return Payload("V2 binary", _post(f"/v2/models/{model.name}/infer", body, length))


def _json(model: Model, arrays: list[np.ndarray]) -> Payload:
    named = zip(model.signature.inputs, arrays, strict=True)
    body = json.dumps({"inputs": {tensor.name: array.tolist() for tensor, array in named}})
    return Payload("JSON", _post("/predict", body.encode(), {"content-type": "application/json"}))


def _post(path: str, body: bytes, headers: dict[str, str]) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: bench", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def _ask(port: int, request: bytes, connections: int) -> list[float]:
    loop = asyncio.get_running_loop()
    stop = time.perf_counter() + SECONDS
    opened = [
        await loop.create_connection(lambda: _Client(request, stop), "127.0.0.1", port)
        for _ in range(connections)
    ]
    await asyncio.gather(*(client.done for _, client in opened))
    return [seconds for _, client in opened for seconds in client.seconds]


@contextlib.contextmanager
def _server(package: Path, device: str, model: Model) -> Iterator[int]:
    """Run a server in a project that is a shadow of this one, so that its log is not touched."""
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as door:
        root, port = Path(folder) / "project", door.getsockname()[1]
        root.mkdir()
        for entry in package.resolve().parents[2].iterdir():
            if entry.name != ".mlstack":
                (root / entry.name).symlink_to(entry)
        Layout(root).state.mkdir()
        Layout(root).proven.symlink_to(Layout(package.resolve().parents[2]).proven)
        gpus = model.engine.gpus
        if gpus.engines is not None:
            Layout(root).tensorrt.symlink_to(gpus.engines)
        spec = ServerSpec(
            root=str(root),
            model=model.name,
            host="127.0.0.1",
            port=port,
            url=f"http://127.0.0.1:{port}",
            pid=os.getpid(),
            started="",
            device=device,
            gpus=gpus.count,
            tensorrt=gpus.engines is not None,
            fixed=str(package.resolve()),
            output="json",
            batching=BatchingSpec(max_queue=QUEUE),
            log=LogSpec(sample=0),
        )
        place = root / "serve.json"
        write(place, spec)
        command = [sys.executable, "-m", WORKER, "serve", str(place), str(door.fileno())]
        process = subprocess.Popen(
            command, pass_fds=[door.fileno()], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            assert process.stdout is not None and process.stderr is not None
            if b"serve.ready" not in process.stdout.readline():
                problem = process.stderr.read().decode(errors="replace")[-300:]
                raise StepError(f"the server did not start: {problem}")
            yield port
        finally:
            process.terminate()
            process.communicate()
