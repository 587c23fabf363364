"""`.mlstack/serve.json`: how the server of a project was started, and where it is found."""

import os
from pathlib import Path
from typing import Literal

import msgspec

from mlstack.records.base import Record, read

FILE = "serve.json"
WORKER = "mlstack.serve.worker"


class BatchingSpec(Record, frozen=True, kw_only=True, tag="serve.batching"):
    """How requests share a call of the model."""

    max_size: int = 64
    max_delay_ms: float = 0.0
    adaptive: bool = True
    max_queue: int = 1024
    deadline_ms: float = 0.0  # from question to answer; 0 waits for ever


class LogSpec(Record, frozen=True, kw_only=True, tag="serve.log"):
    """What is kept of each request."""

    inputs: bool = True
    sample: float = 1.0
    keep_days: int = 30
    flush_ms: int = 50
    redact: list[str] = msgspec.field(default_factory=list)


class RollbackSpec(Record, frozen=True, kw_only=True, tag="serve.rollback"):
    """When a canary is ended by itself."""

    auto: bool = True
    min_requests: int = 20
    window: int = 1000
    max_error_rate: float = 0.02
    max_slowdown: float = 2.0
    min_agreement: float = 0.8


class TlsSpec(Record, frozen=True, kw_only=True, tag="serve.tls"):
    """Which certificate the server shows."""

    cert: str
    key: str


class AccessSpec(Record, frozen=True, kw_only=True, tag="serve.access"):
    """Who may call."""

    keys_file: str = ""  # is read again when it changes
    asks_for_keys: bool = False  # decided at the start: a file that is deleted opens no door
    own_key: str = ""  # of the commands on this machine, while the server runs
    public: list[str] = msgspec.field(default_factory=lambda: ["health"])
    cors_origins: list[str] = msgspec.field(default_factory=list)
    tls: TlsSpec | None = None


class ServerSpec(Record, frozen=True, kw_only=True, tag="serve.server"):
    """Everything the server process needs; it keeps the process id of the command."""

    root: str  # the project's folder
    model: str
    host: str
    port: int
    url: str
    pid: int
    started: str  # UTC, ISO 8601
    grpc_port: int | None = None  # where gRPC is spoken, at the same host
    device: str = "auto"
    gpus: int = 1  # that share the requests
    tensorrt: bool = False  # before CUDA, where it runs on GPUs
    fixed: str | None = None  # a package or .onnx file to serve instead of the live one
    max_body_bytes: int = 16_000_000
    model_control: Literal["none", "explicit"] = "none"  # may requests load and unload
    output: Literal["text", "json", "quiet"] = "text"  # how it says that it is ready
    log_format: Literal["text", "json"] = "text"  # of what it says on stderr
    access_log: bool = False
    otlp_endpoint: str | None = None  # where spans are sent
    batching: BatchingSpec = msgspec.field(default_factory=BatchingSpec)
    log: LogSpec = msgspec.field(default_factory=LogSpec)
    access: AccessSpec = msgspec.field(default_factory=AccessSpec)
    rollback: RollbackSpec = msgspec.field(default_factory=RollbackSpec)

    @property
    def grpc_address(self) -> str:
        """Give host and port of gRPC, as a client is told them."""
        return (
            f"[{self.host}]:{self.grpc_port}"
            if ":" in self.host
            else f"{self.host}:{self.grpc_port}"
        )


class DeviceChoice(Record, frozen=True, kw_only=True, tag="serve.device"):
    """Which device answered a package faster, as `serve bench` measured it; `auto` follows."""

    package: int
    device: Literal["cpu", "gpu"]
    rows_per_s: dict[str, float]  # by device


def choice_path(state: Path) -> Path:
    """Give the file of the faster device below the project's state folder."""
    return state / "serve-device.json"


def path(state: Path) -> Path:
    """Give the file below the project's state folder."""
    return state / FILE


def running(state: Path) -> ServerSpec | None:
    """Find the server of the project with this state folder, if its process still lives."""
    place = path(state)
    if not place.is_file():
        return None
    spec = read(place, ServerSpec)
    try:
        os.kill(spec.pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # somebody else's; it lives
    return spec if _is_ours(spec.pid) else None


def _is_ours(pid: int) -> bool:
    """Tell our process from another that got its number, after a restart of the machine say."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True  # nothing tells
    return b"mlstack" in command
