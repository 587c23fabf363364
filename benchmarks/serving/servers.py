"""The servers that are compared: how each is installed, started, asked and stopped."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from serving import packages
from serving.load import Call

APPS = Path(__file__).parent / "peers"
RUNTIME = "onnxruntime==1.32.0"
NEEDS = {
    "FastAPI": ["fastapi==0.165.0", "uvicorn[standard]==0.54.0", RUNTIME],
    "LitServe": ["litserve==0.2.19", RUNTIME],
    "mosec": ["mosec==0.9.8", RUNTIME],
    "BentoML": ["bentoml==1.4.40", RUNTIME],
    "MLServer": ["mlserver==1.7.1", RUNTIME],
    "pytriton": ["nvidia-pytriton==0.7.0", RUNTIME],
    "bare": [
        *("httptools==0.9.0", "uvloop==0.23.0", "orjson==3.13.0", "pysimdjson==7.0.2"),
        *("pillow==13.0.0", RUNTIME),
    ],
}
READY = {
    "FastAPI": "/health",
    "LitServe": "/health",
    "mosec": "/",
    "BentoML": "/readyz",
    "MLServer": "/v2/health/ready",
    "pytriton": "/v2/models/bench/ready",
    "bare": "/",
    "mlstack": "/health/ready",
}
CEILING = "bare"  # no peer: what is left of a server without all that makes it one
START_S = 40.0
REPAIR = """
from multiprocessing import resource_tracker as _tracker
_tracker._resource_tracker._lock = threading._PyRLock()
"""


@dataclass(frozen=True)
class Case:
    """One model, and how its input travels: json, v2-json, binary or jpeg."""

    kind: str
    payload: str


@dataclass
class Running:
    """A server that answers."""

    name: str
    url: str
    root: psutil.Process
    start_s: float


def install(name: str, home: Path) -> str:
    """Make the virtualenv of a peer, outside of the repository; say why when that fails."""
    place = home / name.lower()
    if (place / "installed").is_file():
        return ""
    venv.create(place, with_pip=True)
    pip = [str(place / "bin" / "pip"), "install", "-q", "--disable-pip-version-check"]
    done = subprocess.run([*pip, *NEEDS[name]], capture_output=True, text=True, check=False)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["pip failed"])[-1][:200]
    if name == "pytriton":
        _repair_pytriton(place)
    (place / "installed").touch()
    return ""


def _repair_pytriton(place: Path) -> None:
    """Let it start: the interpreter inside is older than the standard library that it finds.

    The library's lock asks for a method that locks of that interpreter do not have.
    """
    (source,) = place.glob("lib/python*/site-packages/pytriton/proxy/data.py")
    with source.open("a") as file:
        file.write(REPAIR)


def call(name: str, case: Case) -> Call:
    """Write the request that a server takes for one row (or picture)."""
    if case.payload == "jpeg":
        return Call("/predict", packages.picture(), {"content-type": "image/jpeg"})
    row = packages.example(case.kind)
    flat = [round(float(value), 6) for value in row.ravel()]
    headers = {"content-type": "application/json"}
    if case.payload == "json":
        nested = np.asarray(flat).reshape(row.shape).tolist()
        given = {"BentoML": nested, "mlstack": nested[0]}.get(name, flat)
        return Call("/predict", json.dumps({"inputs": given}).encode(), headers)
    if name == "mosec":
        return Call("/predict", row.tobytes(), {"content-type": "application/octet-stream"})
    model = case.kind if name == "mlstack" else "bench"
    return _v2(f"/v2/models/{model}/infer", row, flat, case.payload)


def _v2(path: str, row: np.ndarray, flat: list[float], payload: str) -> Call:
    tensor = {"name": "x", "shape": list(row.shape), "datatype": "FP32"}
    if payload == "v2-json":
        text = json.dumps({"inputs": [{**tensor, "data": flat}]}).encode()
        return Call(path, text, {"content-type": "application/json"})
    tensor["parameters"] = {"binary_data_size": row.nbytes}
    body = {"inputs": [tensor], "outputs": [{"name": "probabilities"}]}
    body["outputs"][0]["parameters"] = {"binary_data": True}
    head = json.dumps(body).encode()
    return Call(path, head + row.tobytes(), {"Inference-Header-Content-Length": str(len(head))})


def check(server: Running, case: Case, graph: Path) -> None:
    """Compare one answer with the raw session: a fast wrong server is of no use."""
    answer = call(server.name, case).ask(server.url)
    assert answer.status_code == 200, (server.name, case, answer.status_code, answer.text[:300])
    if case.payload != "json":
        return
    row = packages.example(case.kind)
    truth = packages.session(graph, 1).run(["probabilities"], {"x": row})[0][0]
    body = answer.json()
    given = body if isinstance(body, list) else body["probabilities"]
    got = np.ravel(list(given.values()) if isinstance(given, dict) else given)
    assert np.abs(got - truth).max() < 1e-3, (server.name, got, truth)


@contextlib.contextmanager
def running(name: str, case: Case, project: Path, home: Path) -> Iterator[Running]:
    """Start a server, wait for its first 200, and stop it with everything below it."""
    port = _free_port()
    started = time.perf_counter()
    with (home / f"{name.lower()}.log").open("ab") as said:
        process = subprocess.Popen(
            _command(name, port, project, home),
            cwd=project if name == "mlstack" else _folder(name, port, home),
            env=_environment(name, case, port, project, home),
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(port, READY[name], process)
        yield Running(name, url, psutil.Process(process.pid), time.perf_counter() - started)
    finally:
        _stop(process)


def _command(name: str, port: int, project: Path, home: Path) -> list[str]:
    programs = home / name.lower() / "bin"
    match name:
        case "mlstack":
            return [sys.executable, "-m", "mlstack", "serve", "--port", str(port), "--quiet"]
        case "FastAPI":
            words = ["fastapi_app:app", "--no-access-log", "--log-level", "error"]
            return [str(programs / "uvicorn"), *words, "--port", str(port)]
        case "BentoML":
            words = ["-q", "bentoml_app:Bench", "--host", "127.0.0.1", "--port", str(port)]
            return [str(programs / "bentoml"), "serve", *words]
        case "MLServer":
            return [str(programs / "mlserver"), "start", "."]
        case "mosec":
            words = ["--address", "127.0.0.1", "--port", str(port), "--log-level", "error"]
            more = ["--capacity", "2048", "--timeout", "30000"]
            return [str(programs / "python"), str(APPS / "mosec_app.py"), *words, *more]
    return [str(programs / "python"), str(APPS / f"{name.lower()}_app.py")]


def _environment(name: str, case: Case, port: int, project: Path, home: Path) -> dict[str, str]:
    environment = dict(os.environ)
    if name == "mlstack":
        return environment
    environment.pop("PYTHONPATH", None)
    graph = project / "models" / case.kind / "1" / "model.onnx"
    programs = home / name.lower() / "bin"
    return environment | {
        "BENCH_MODEL": str(graph),
        "BENCH_THREADS": "1" if case.kind == "mlp" else str(os.cpu_count()),
        "BENCH_PAYLOAD": case.payload,
        "BENCH_PORT": str(port),
        "PYTHONPATH": str(APPS),
        "PATH": f"{programs}:{environment['PATH']}",
        "DO_NOT_TRACK": "1",
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_HOME": str(home / "bentoml-home"),
    }


def _folder(name: str, port: int, home: Path) -> Path:
    """Give the folder that a peer is started in; MLServer wants its settings there."""
    folder = home / f"{name.lower()}-work"
    folder.mkdir(exist_ok=True)
    if name == "MLServer":
        ports = {"http_port": port, "grpc_port": _free_port(), "metrics_port": _free_port()}
        loopback = {"host": "127.0.0.1", "parallel_workers": 0, "debug": False}
        batches = {"max_batch_size": 32, "max_batch_time": 0.005}
        model = {"name": "bench", "implementation": "mlserver_app.Bench", **batches}
        (folder / "settings.json").write_text(json.dumps(ports | loopback))
        (folder / "model-settings.json").write_text(json.dumps(model))
    return folder


def _wait(port: int, path: str, process: subprocess.Popen[bytes]) -> None:
    """Ask until the answer is 200, by a client so light that it keeps no core from who starts."""
    until = time.perf_counter() + START_S
    while time.perf_counter() < until:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        with (
            contextlib.suppress(OSError, http.client.HTTPException),
            contextlib.closing(connection),
        ):
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        if process.poll() is not None:
            raise RuntimeError(f"it ended with {process.returncode} before it answered")
        time.sleep(0.005)
    raise RuntimeError(f"no answer within {START_S:g} s")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a server and what it started: its session's own processes, by their ids."""
    children = psutil.Process(process.pid).children(recursive=True) if _runs(process) else []
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(4)  # mosec takes longer, whatever it is asked
    for child in [*children, process]:
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            child.kill()
    process.wait(10)


def _runs(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is None


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])
