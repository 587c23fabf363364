"""Load on loopback: wrk for closed loops, an asyncio client of our own for given rates.

wrk is C and costs about 5 us a request, a tenth of the cheapest server here, so that what it shares
the cores with is measured and not itself. It only knows closed loops: a server that is overloaded
would be asked less. Rates (2x overload, 70 % load) are therefore sent by `paced`, on time whatever
comes back. All of it is bounded by a duration, and by connections.
"""

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import psutil
import uvloop

LUA = """
wrk.method = "{method}"
local file = io.open("{body}", "rb")
wrk.body = file:read("*a")
file:close()
{headers}
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\\nJSON {{"requests": %d, "us": %d, "p50": %f, "p99": %f, "refused": %d, "broken": %d}}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
"""


@dataclass(frozen=True)
class Call:
    """One HTTP request, sent again and again."""

    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    def ask(self, url: str) -> httpx.Response:
        """Send it once."""
        return httpx.post(url + self.path, content=self.body, headers=self.headers, timeout=30)

    def raw(self) -> bytes:
        """Write it as HTTP/1.1."""
        lines = [f"POST {self.path} HTTP/1.1", "host: x", f"content-length: {len(self.body)}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


@dataclass
class Measured:
    """What one loaded second (or several) showed."""

    rps: float
    p50_ms: float
    p99_ms: float
    cpu_us: float  # of the whole server tree, a request
    failed: int


def cpu_seconds(root: psutil.Process) -> float:
    """Add up the CPU time of a process and everything below it."""
    total = 0.0
    for process in [root, *root.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def memory_mb(root: psutil.Process) -> float:
    """Add up the resident memory of a process and everything below it, shared pages once."""
    total = 0
    for process in [root, *root.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total / 1e6


def need_wrk() -> None:
    """End where there is no wrk."""
    if shutil.which("wrk") is None:
        sys.exit("this needs wrk; type: sudo apt-get install wrk")


def closed(url: str, call: Call, root: psutil.Process, *, c: int, seconds: float) -> Measured:
    """Let `c` connections ask as fast as they are answered."""
    with tempfile.TemporaryDirectory() as folder:
        body, script = Path(folder) / "body", Path(folder) / "script.lua"
        body.write_bytes(call.body)
        headers = "\n".join(f'wrk.headers["{k}"] = "{v}"' for k, v in call.headers.items())
        script.write_text(LUA.format(method="POST", body=body, headers=headers))
        command = [
            "wrk",
            "-t1",
            f"-c{c}",
            f"-d{max(1, round(seconds))}s",
            "--timeout",
            "30s",
            "-s",
            str(script),
        ]
        before = cpu_seconds(root)
        out = subprocess.run(
            [*command, url + call.path], capture_output=True, text=True, check=True
        )
        used = cpu_seconds(root) - before
    said = json.loads(out.stdout.rpartition("JSON ")[2])
    return Measured(
        rps=said["requests"] / said["us"] * 1e6,
        p50_ms=said["p50"] / 1e3,
        p99_ms=said["p99"] / 1e3,
        cpu_us=used / max(1, said["requests"]) * 1e6,
        failed=said["refused"] + said["broken"],
    )


@dataclass
class Paced:
    """What came back at a given rate of requests."""

    sent: int = 0
    codes: dict[int, int] = field(default_factory=dict)
    answered_s: list[float] = field(default_factory=list)  # of answers with 200
    refused_s: list[float] = field(default_factory=list)  # of 429 and 503
    unanswered: int = 0
    seconds: float = 0.0

    def goodput(self) -> float:
        """Give the answers with 200 a second."""
        return self.codes.get(200, 0) / self.seconds

    def p99_ms(self) -> float:
        """Give the 99th percentile of the answers with 200."""
        return float(np.percentile(self.answered_s or [np.inf], 99)) * 1e3


class _Connection(asyncio.Protocol):
    """Pipelines nothing: one request is under way on a connection, others wait for a free one."""

    def __init__(self, pool: "_Pool") -> None:
        self.pool = pool
        self.buffer = b""
        self.sent = 0.0
        self.is_waiting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.pool.free.append(self)

    def send(self) -> None:
        self.sent = time.perf_counter()
        self.is_waiting = True
        self.transport.write(self.pool.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, separator, body = self.buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) < size:
            return
        self.buffer = b""
        self.is_waiting = False
        self.pool.answered(int(head[9:12]), time.perf_counter() - self.sent)
        self.pool.free.append(self)

    def connection_lost(self, error: Exception | None) -> None:
        if self.is_waiting:
            self.pool.result.unanswered += 1


class _Pool:
    def __init__(self, request: bytes) -> None:
        self.request = request
        self.free: deque[_Connection] = deque()
        self.result = Paced()

    def answered(self, code: int, seconds: float) -> None:
        result = self.result
        result.codes[code] = result.codes.get(code, 0) + 1
        (result.answered_s if code == 200 else result.refused_s).append(seconds)


async def _paced(url: str, call: Call, rate: float, seconds: float, connections: int) -> Paced:
    host, port = url.removeprefix("http://").split(":")
    loop = asyncio.get_running_loop()
    pool = _Pool(call.raw())
    opened = [
        (await loop.create_connection(lambda: _Connection(pool), host, int(port)))[0]
        for _ in range(connections)
    ]
    started = time.perf_counter()
    due, total = 0, int(rate * seconds)
    while due < total:
        await asyncio.sleep(0.001)
        now = min(total, int((time.perf_counter() - started) * rate))
        for _ in range(min(now - due, len(pool.free))):
            pool.free.popleft().send()
            pool.result.sent += 1
        due = now  # what found no free connection was not sent; `sent` says so
    pool.result.seconds = time.perf_counter() - started
    until = time.perf_counter() + 10
    while len(pool.free) < connections - pool.result.unanswered and time.perf_counter() < until:
        await asyncio.sleep(0.01)
    pool.result.unanswered = connections - len(pool.free)
    for transport in opened:
        transport.close()
    return pool.result


def paced(url: str, call: Call, *, rate: float, seconds: float, connections: int) -> Paced:
    """Send `rate` requests a second, on time, over a bounded number of connections."""
    return uvloop.run(_paced(url, call, rate, seconds, connections))
