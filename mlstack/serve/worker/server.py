"""The life of the server process: open, load, answer, drain, close the log."""

import asyncio
import contextlib
import importlib
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import orjson
import uvloop

from mlstack import files
from mlstack.errors import MlstackError
from mlstack.records import server as record
from mlstack.records.base import encode, read
from mlstack.records.layout import Layout
from mlstack.records.server import ServerSpec
from mlstack.serve import proof
from mlstack.serve.worker import feedback, notify, said
from mlstack.serve.worker.app import App
from mlstack.serve.worker.connection import end_late
from mlstack.serve.worker.feedback import Feedback
from mlstack.serve.worker.listener import DRAIN_S, Listener
from mlstack.serve.worker.log import RequestLog
from mlstack.serve.worker.memory import collect_rarely, map_large_blocks
from mlstack.serve.worker.model import Model
from mlstack.serve.worker.reload import Deployment
from mlstack.serve.worker.repository import Repository
from mlstack.serve.worker.tls import Tls

if TYPE_CHECKING:
    from mlstack.serve.worker.grpc_server import GrpcServer

TICK_S = 5.0
LATE_S = 1.0
SWITCH_S = 0.0005  # the thread of the log must not keep a request waiting for 5 ms


def serve(spec_file: Path, listening: socket.socket) -> int:
    """Serve until a signal asks to stop; give the exit code."""
    spec = read(spec_file, ServerSpec)
    sys.setswitchinterval(SWITCH_S)
    map_large_blocks()
    collect_rarely()
    said.configure(spec.log_format)
    try:
        return uvloop.run(_Life(spec, listening, spec_file).run())
    except MlstackError as error:
        _say_error(error, spec)
        return error.exit_code
    finally:
        _forget(spec_file, spec)


class _Life:
    def __init__(self, spec: ServerSpec, listening: socket.socket, spec_file: Path) -> None:
        layout = Layout(Path(spec.root))
        self._spec = spec
        self._spec_file = spec_file
        self._log = RequestLog(layout.requests, spec.model, spec.log)
        feedback.merge(layout.feedback)
        self._late = Feedback(layout.feedback)
        self._app = App(spec, self._log, self._late)
        self._tls = Tls(spec.access.tls)
        self._deployment = Deployment(spec, self._app)
        self._app.repository = Repository(
            folder=Path(spec.root) / "models" / spec.model,
            is_explicit=spec.model_control == "explicit",
            load=self._deployment.load,
            unload=self._deployment.unload,
        )
        self._grpc: GrpcServer | None = None
        self._code = 0
        self._stopping: list[asyncio.Task[None]] = []
        self._listener = Listener(self._app, listening, self._tls.context)
        self._is_over = asyncio.Event()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        self._log.start(self._deployment.features())
        await self._listener.start()
        others: list[asyncio.Task[None]] = []
        try:
            model = await self._deployment.start()
            await self._open_grpc()
            if not self._app.is_stopping:
                _announce(self._spec, model)
                notify.tell("READY=1")
            others = [
                asyncio.create_task(self._deployment.watch()),
                asyncio.create_task(self._keep_house()),
                asyncio.create_task(self._app.access.watch()),
                asyncio.create_task(self._tls.watch()),
                asyncio.create_task(self._end_late()),
            ]
            await self._is_over.wait()
        finally:
            for task in others:
                task.cancel()
            await self._listener.close()
            await self._close_grpc(DRAIN_S)
            self._late.close()
            self._log.close()
            self._app.access_log.close()
            await asyncio.to_thread(self._app.spans.close)
        return self._code

    async def _open_grpc(self) -> None:
        """Speak gRPC, too, where the settings ask for it; its libraries are an extra."""
        if self._spec.grpc_port is not None and not self._app.is_stopping:
            worker = importlib.import_module("mlstack.serve.worker.grpc_server")
            self._grpc = worker.GrpcServer(self._spec, self._app)
            await self._grpc.start()

    async def _close_grpc(self, grace_s: float) -> None:
        if self._grpc is not None:
            await self._grpc.stop(grace_s)

    def _stop(self, number: int) -> None:
        notify.tell("STOPPING=1")
        proof.stop()
        if self._app.is_stopping:  # asked twice: at once
            self._code = 128 + number
            self._stopping.append(asyncio.create_task(self._close_grpc(0)))
            self._listener.abort()
            self._is_over.set()
            return
        self._app.is_stopping = True
        self._stopping = [
            asyncio.create_task(one) for one in (self._drain(), self._close_grpc(DRAIN_S))
        ]

    async def _drain(self) -> None:
        """Answer what comes on open connections for a moment, then nothing more."""
        await self._listener.drain()
        self._app.is_closed = True
        self._is_over.set()

    async def _end_late(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LATE_S)
            end_late(self._listener.open.connections, loop.time())

    async def _keep_house(self) -> None:
        while True:
            notify.tell("WATCHDOG=1")
            await asyncio.sleep(TICK_S)
            self._log.tick()
            self._late.tick()
            _be_found(self._spec_file, self._spec)


def _announce(spec: ServerSpec, model: Model) -> None:
    """Say on stdout, in one line, that requests are answered from now on."""
    provider = model.runner.provider
    if spec.output == "json":
        line = orjson.dumps(
            {
                "v": 1,
                "ok": True,
                "kind": "serve.ready",
                "model": model.name,
                "version": model.number,
                "url": spec.url,
                "provider": provider,
                **({"grpc": spec.grpc_address} if spec.grpc_port is not None else {}),
            }
        ).decode()
    elif spec.output == "quiet":
        line = spec.url
    else:
        also = f" and gRPC on {spec.grpc_address}" if spec.grpc_port is not None else ""
        line = (
            f"serving {model.name} version {model.number} on {spec.url}{also} ({provider}); "
            "Ctrl-C stops"
        )
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _say_error(error: MlstackError, spec: ServerSpec) -> None:
    """Show an error as `ending.show` would; rich stays out of this process."""
    if spec.output == "json":
        body = {
            "code": error.exit_code,
            "problem": error.problem,
            "hint": error.hint,
            "where": error.where,
        }
        sys.stdout.write(orjson.dumps({"v": 1, "ok": False, "error": body}).decode() + "\n")
        return
    lines = [f"error: {error.problem}"]
    lines += [f"  --> {error.where}"] if error.where and error.where not in error.problem else []
    lines += [f"  hint: {error.hint}"] if error.hint else []
    sys.stderr.write("\n".join(lines) + "\n")


def _be_found(spec_file: Path, spec: ServerSpec) -> None:
    """Write serve.json again when another server of the project, that wrote its own, has ended."""
    with contextlib.suppress(OSError, MlstackError):  # the project may be gone
        if spec_file.parent.is_dir() and record.running(spec_file.parent) is None:
            files.write_bytes(spec_file, encode(spec), mode=0o600)  # it holds a key


def _forget(spec_file: Path, spec: ServerSpec) -> None:
    """Remove serve.json unless another server has written its own since."""
    try:
        current = msgspec.json.decode(spec_file.read_bytes(), type=record.ServerSpec)
    except (OSError, msgspec.DecodeError):
        return
    if current.pid == spec.pid:
        spec_file.unlink()
