"""What is left of a server without validation, limits, metrics, log and reloads: the ceiling.

llhttp, one queue, whatever has come when a call ends as the next batch, one session. No peer to
choose, for it answers nonsense with nonsense; but where this stays below a target, a server of this
design that does all the rest will, too.
"""

import asyncio
import io
import os
from concurrent.futures import ThreadPoolExecutor

import httptools
import numpy as np
import onnxruntime as ort
import orjson
import simdjson
import uvloop
from PIL import Image

MOST = 64
SMALL_BYTES = 2048
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"


class Queue:
    """The rows that wait for the session, each with who has asked for it."""

    def __init__(self) -> None:
        options = ort.SessionOptions()
        threads = int(os.environ["BENCH_THREADS"])
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = ort.InferenceSession(os.environ["BENCH_MODEL"], options)
        self.tensor = self.session.get_inputs()[0]
        self.shape = self.tensor.shape[1:]
        self.is_inline = threads == 1  # a model that is done before a thread has woken up
        self.thread = ThreadPoolExecutor(1)
        self.waiting: list[tuple[np.ndarray, asyncio.Transport]] = []
        self.is_busy = False

    def add(self, row: np.ndarray, transport: asyncio.Transport) -> None:
        """Queue a row."""
        self.waiting.append((row, transport))
        if not self.is_busy:
            self.is_busy = True
            asyncio.get_running_loop().call_soon(self.run)

    def run(self) -> None:
        """Run what waits."""
        batch, self.waiting = self.waiting[:MOST], self.waiting[MOST:]
        x = np.stack([row for row, _ in batch])
        if self.is_inline:
            self.answer(batch, self.call(x))
            return
        running = asyncio.get_running_loop().run_in_executor(self.thread, self.call, x)
        running.add_done_callback(lambda done: self.answer(batch, done.result()))

    def call(self, x: np.ndarray) -> np.ndarray:
        """Call the session."""
        return self.session.run(["probabilities"], {self.tensor.name: x})[0]

    def answer(self, batch: list[tuple[np.ndarray, asyncio.Transport]], found: np.ndarray) -> None:
        """Answer a batch, and go on with what has come meanwhile."""
        self.is_busy = bool(self.waiting)
        if self.is_busy:
            asyncio.get_running_loop().call_soon(self.run)
        for (_, transport), row in zip(batch, found.tolist(), strict=True):
            body = orjson.dumps({"probabilities": row})
            if not transport.is_closing():
                transport.write(OK % (len(body), body))


class Connection(asyncio.Protocol):
    """One connection, whose client asks one thing after the other."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.parser = httptools.HttpRequestParser(self)
        self.json = simdjson.Parser()
        self.pieces: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep who asks."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Parse."""
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body."""
        self.pieces.append(body)

    def on_message_complete(self) -> None:
        """Queue the row; a GET asks whether somebody is there."""
        body, self.pieces = b"".join(self.pieces), []
        if body:
            self.queue.add(self.row(body).reshape(self.queue.shape), self.transport)
        else:
            self.transport.write(OK % (2, b"{}"))

    def row(self, body: bytes) -> np.ndarray:
        """Read a row as what the benchmark sends."""
        match os.environ["BENCH_PAYLOAD"]:
            case "jpeg":
                return np.asarray(Image.open(io.BytesIO(body)))
            case "binary":
                size = 4 * int(np.prod(self.queue.shape))
                return np.frombuffer(body[-size:], np.float32)
        if len(body) < SMALL_BYTES:
            return np.array(orjson.loads(body)["inputs"], np.float32)
        values = self.json.parse(body)["inputs"].as_buffer(of_type="d")
        return np.frombuffer(values, np.float64).astype(np.float32)


async def main() -> None:
    """Serve until killed."""
    queue = Queue()
    loop = asyncio.get_running_loop()
    port = int(os.environ["BENCH_PORT"])
    server = await loop.create_server(lambda: Connection(queue), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
