"""What HTTP itself costs: our connections beside uvicorn, with the same constant answer.

    python benchmarks/serve_http.py [ROUNDS]

CPU microseconds of the server process a request, 64 connections of wrk on loopback, in turns.
"""

import asyncio
import socket
import subprocess
import sys
from statistics import median

import psutil
import uvicorn
import uvloop
from serving.load import Call, closed, need_wrk

from mlstack.records.server import LogSpec
from mlstack.serve.worker.answers import JSON, Answer
from mlstack.serve.worker.fast_path import Books, FastPath
from mlstack.serve.worker.listener import Listener
from mlstack.serve.worker.metrics import Metrics
from mlstack.serve.worker.request import Request

BODY = b'{"prediction":"class 1","confidence":0.9,"prediction_id":"01a21633-7b30-79c4-a171"}'
SIZE = (b"content-length", str(len(BODY)).encode())


class Constant:
    """The same answer, as an ASGI application and as ours."""

    max_body_bytes = 1 << 20
    is_stopping = False
    fast_path = FastPath(lambda: None, None, Books(Metrics("m"), None, None), LogSpec())

    async def __call__(self, scope: dict, receive: object, send: object) -> None:
        """Answer by ASGI."""
        await receive()
        headers = [JSON, SIZE]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": BODY})

    async def answer(self, request: Request) -> Answer:
        """Answer our connection."""
        return Answer(200, BODY, [JSON])


def serve(kind: str, descriptor: int) -> None:
    """Serve until killed."""
    listening = socket.socket(fileno=descriptor)
    if kind == "ours":
        uvloop.run(listen(listening))
    config = uvicorn.Config(
        Constant(),
        http="httptools",
        interface="asgi3",
        lifespan="off",
        log_level="critical",
        access_log=False,
        proxy_headers=False,
    )
    uvloop.run(uvicorn.Server(config).serve(sockets=[listening]))


async def listen(listening: socket.socket) -> None:
    """Serve by our listener."""
    listener = Listener(Constant(), listening, None)
    await listener.start()
    await asyncio.Event().wait()


def measure(kind: str) -> tuple[float, float]:
    """Give CPU microseconds and requests a second."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listening:
        port = listening.getsockname()[1]
        number = listening.fileno()
        command = [sys.executable, __file__, "--serve", kind, str(number)]
        process = subprocess.Popen(command, pass_fds=[number])
    try:
        call = Call("/x", b'{"inputs":[1,2,3,4]}', {"content-type": "application/json"})
        url = f"http://127.0.0.1:{port}"
        assert call.ask(url).status_code == 200
        got = closed(url, call, psutil.Process(process.pid), c=64, seconds=3)
        assert got.failed == 0
        return got.cpu_us, got.rps
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Print both, and the ratio."""
    need_wrk()
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    found = {kind: [] for kind in ("uvicorn", "ours")}
    for turn in range(rounds):
        for kind in found if turn % 2 else reversed(found):
            found[kind].append(measure(kind))
    for kind, figures in found.items():
        print(f"{kind:8} {median(cpu for cpu, _ in figures):5.1f} us CPU a request", end="  ")
        print(f"{median(rps for _, rps in figures):8.0f}/s")
    ratios = [a / b for (a, _), (b, _) in zip(found["uvicorn"], found["ours"], strict=True)]
    print(f"CPU of uvicorn's protocol by ours: {median(ratios):.2f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2], int(sys.argv[3]))
    else:
        main()
