"""Start the server: check everything that can be checked here, then become it."""

import datetime
import errno
import importlib.util
import os
import socket
import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal, NoReturn

from mlstack import config as settings
from mlstack import files, shell
from mlstack.config import Project
from mlstack.errors import ConfigError, MachineError
from mlstack.launch.forkserver import THREADLESS
from mlstack.records import known
from mlstack.records import server as server_record
from mlstack.records.base import Record, encode, read
from mlstack.records.layout import Layout
from mlstack.records.server import (
    WORKER,
    AccessSpec,
    BatchingSpec,
    DeviceChoice,
    LogSpec,
    RollbackSpec,
    ServerSpec,
)
from mlstack.serve import engines
from mlstack.serve import live as live_file
from mlstack.serve.access import decide
from mlstack.serve.alone import project_around
from mlstack.serve.results import Assumed, Promoted

FILE = Path("mlstack.yaml")
KEPT_OUT = {"typer", "rich", "pydantic"}  # of the server's memory


@dataclass(frozen=True)
class Wanted:
    """What the command line asks of a server; None leaves it to mlstack.yaml."""

    host: str | None = None
    port: int | None = None
    device: str | None = None
    model: Path | None = None
    output: Literal["text", "json", "quiet"] = "text"
    is_insecure: bool = False


def serve(path: Path, *, sets: tuple[str, ...], wanted: Wanted) -> Iterator[Record]:
    """Check everything that can be checked here, then become the server process.

    Raises:
        DataError: there is no package, or it is not whole.
        GateError: it cannot be opened.
        MachineError: the port is taken.
        ConfigError: others could call without a key.
    """
    project = yield from _project(path, sets, wanted)
    yield from become_server(project, wanted)


def become_server(project: Project, wanted: Wanted) -> Iterator[Record]:
    """Do the same for a project whose settings were checked.

    Raises:
        DataError, GateError, MachineError, ConfigError: see `serve`.
    """
    config = project.config.serve
    host = wanted.host or config.host
    listening = _listen(host, config.port if wanted.port is None else wanted.port)
    address = listening.getsockname()[0]
    access = decide(project, address, is_insecure=wanted.is_insecure)
    yield from _make_live(project, wanted)
    engines.sweep(Layout(project.root).tensorrt)
    spec = _spec(project, wanted, listening, access)
    place = server_record.path(Layout(project.root).state)
    files.write_bytes(place, encode(spec), mode=0o600)  # it holds a key
    _become(place, listening)


def _project(path: Path, sets: tuple[str, ...], wanted: Wanted) -> Generator[Record, None, Project]:
    """Load the project; a package that `--model` names needs none."""
    if wanted.model is None or path != FILE or path.exists():
        project = settings.load(path, sets=sets)
        return known.keep(path, project) if not sets else project
    _refuse_absent(wanted.model)
    project = project_around(wanted.model, path, sets=sets)
    yield Assumed(model=project.config.project.name, folder=str(project.root))
    return project


def _refuse_absent(model: Path) -> None:
    if not model.exists():
        raise ConfigError(f"there is no `{model}`", hint="give a package's folder or an .onnx file")


def _make_live(project: Project, wanted: Wanted) -> Iterator[Record]:
    """Promote the newest package when none is live; the server checks the one that is."""
    if wanted.model is not None:
        _refuse_absent(wanted.model)
        return
    layout = Layout(project.root)
    folder = layout.model(project.config.project.name)
    live = live_file.current(folder)
    if live.live is None:
        number = live_file.newest(folder)
        try:
            live_file.promote(folder, number)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            where = "" if os.access(layout.state, os.W_OK) else "in a folder that may be written, "
            raise MachineError(
                f"`{folder}` may only be read, so no package can be made live there",
                hint=f"{where}type `mlstack serve --model {shell.path(folder / str(number))}`",
            ) from error
        yield Promoted(model=folder.name, number=number)


def _listen(
    host: str, port: int, hint: str = "choose another one with `--port`, or let `--port 0` choose"
) -> socket.socket:
    """Take the port now, so that nothing is started when it is taken."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ConfigError(f"`{host}` is no address of this machine", hint="set `--host`") from error
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
    except OSError as error:
        listening.close()
        raise MachineError(
            f"cannot listen on {host}:{port}: {(error.strerror or '').lower()}",
            hint=hint,
        ) from error
    return listening


def _spec(
    project: Project, wanted: Wanted, listening: socket.socket, access: AccessSpec
) -> ServerSpec:
    config = project.config.serve
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return ServerSpec(
        root=str(project.root),
        model=project.config.project.name,
        host=host,
        port=port,
        url=f"{'https' if access.tls else 'http'}://{shown}:{port}",
        pid=os.getpid(),
        started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        grpc_port=_grpc_port(config.grpc_port, host),
        device=_device(project, wanted),
        gpus=config.gpus,
        tensorrt=config.tensorrt,
        fixed=str(wanted.model.resolve()) if wanted.model is not None else None,
        max_body_bytes=int(config.max_body_mb * 1_000_000),
        output=wanted.output,
        log_format=config.log_format,
        access_log=config.access_log,
        otlp_endpoint=config.otlp_endpoint,
        model_control=config.model_control,
        batching=BatchingSpec(
            max_size=config.batching.max_size,
            max_delay_ms=config.batching.max_delay_ms,
            adaptive=config.batching.adaptive,
            max_queue=config.batching.max_queue,
            deadline_ms=config.batching.deadline_ms,
        ),
        log=LogSpec(
            inputs=config.log.inputs,
            sample=config.log.sample,
            keep_days=config.log.keep_days,
            flush_ms=config.log.flush_ms,
            redact=config.log.redact,
        ),
        access=access,
        rollback=RollbackSpec(**vars(config.traffic.rollback)),
    )


def _grpc_port(port: int | None, host: str) -> int | None:
    """Find the port for gRPC free, or one that is; the server process itself takes it.

    Raises:
        MachineError: it is taken, or the libraries are not there.
    """
    if port is None:
        return None
    if any(importlib.util.find_spec(name) is None for name in ("grpc", "tritonclient")):
        raise MachineError(
            "`serve.grpc_port` needs grpcio and tritonclient", hint="pip install 'mlstack[grpc]'"
        )
    with _listen(host, port, hint="choose another one with `serve.grpc_port`, 0 for any") as found:
        return int(found.getsockname()[1])


def _device(project: Project, wanted: Wanted) -> str:
    """Give the device; where nobody chose, the one that `serve bench` found faster."""
    device = wanted.device or project.config.serve.device
    layout = Layout(project.root)
    place = server_record.choice_path(layout.state)
    if device != "auto" or project.config.serve.tensorrt:
        return device  # somebody chose
    if wanted.model is not None or not place.is_file():
        return device
    choice = read(place, DeviceChoice)
    live = live_file.current(layout.model(project.config.project.name)).live
    return choice.device if choice.package == live else device


def _become(spec: Path, listening: socket.socket) -> NoReturn:
    """Become the server: in this process, unless typer, rich and pydantic would stay in it."""
    descriptor = listening.detach()
    arguments = ["serve", str(spec), str(descriptor)]
    sys.stdout.flush()
    sys.stderr.flush()
    if KEPT_OUT.isdisjoint(sys.modules):
        os.environ |= {**THREADLESS, **os.environ}
        code = import_module(f"{WORKER}.__main__").main(arguments)
        sys.stdout.flush()  # what is left in it at a SystemExit goes nowhere, see `ending`
        raise SystemExit(code)
    os.set_inheritable(descriptor, True)
    environment = {**THREADLESS, **os.environ}
    os.execve(sys.executable, [sys.executable, "-m", WORKER, *arguments], environment)
