"""V2 over gRPC, asked with the stock Triton client."""

import json
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from certificates import make_certificate
from cryptography import x509
from serving import CONFIG, NAME, Kind, Server, end, eventually, make_package, mlstack, start

from mlstack.serve.worker.grpc_messages import CONTENTS, infer_question, messages
from mlstack.serve.worker.tensors import DTYPES

PIXELS = np.random.default_rng(3).integers(0, 256, (5, 16, 16, 1), dtype=np.uint8)
Begin = Callable[[Path], Server]
GRPC = "serve: {{grpc_port: 0{more}}}\n"


def made(root: Path, more: str = "", kind: Kind | None = None) -> Path:
    (root / "mlstack.yaml").write_text(CONFIG + GRPC.format(more=more))
    make_package(root, **({"kind": kind} if kind else {}))
    return root


def address(server: Server) -> str:
    return json.loads(server.said)["grpc"]


def words(command: str, server: Server, *more: str) -> list[str]:
    script = Path(__file__).with_name("triton_grpc.py")
    return [sys.executable, str(script), command, address(server), *more]


def asked(command: str, server: Server, *more: str) -> dict:
    ran = subprocess.run(words(command, server, *more), capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = start(made(tmp_path_factory.mktemp("grpc"), ", max_body_mb: 1"))
    yield running
    end(running)


@pytest.fixture
def begin() -> Iterator[Callable[[Path], Server]]:
    """Start servers that end with the test."""
    with ExitStack() as running:

        def begun(root: Path) -> Server:
            found = start(root)
            running.callback(end, found)
            return found

        yield begun


def test_the_triton_client_gets_what_the_session_gives(server: Server) -> None:
    package = server.project / "models" / NAME / "1"
    session = ort.InferenceSession(package / "model.onnx", providers=["CPUExecutionProvider"])
    expected = session.run(["probabilities"], {"images": PIXELS})[0]

    said = asked("rounds", server)

    np.testing.assert_allclose(said["probabilities"], expected, atol=1e-6)
    np.testing.assert_allclose(said["typed"], expected[0], atol=1e-6)
    assert (said["live"], said["ready"], said["model"], said["other"]) == (True, True, True, False)
    assert said["server"] == "mlstack"
    assert said["inputs"][0]["name"] == "images"
    assert said["index"] == [{"name": NAME, "version": "1", "state": "READY"}]
    assert said["id"] == "7"
    assert said["chosen"] == ["probabilities"]


def test_a_call_is_counted_and_logged_like_any_request(server: Server) -> None:
    def answered() -> float:
        counts = server.metrics().items()
        return sum(n for name, n in counts if "requests_total{" in name and '"infer"' in name)

    before = answered()

    prediction = asked("rounds", server)["prediction"]

    assert answered() == before + 3
    place = server.project / ".mlstack" / "requests"
    eventually(lambda: any(prediction.encode() in f.read_bytes() for f in place.rglob("*.arrows")))


def test_what_is_wrong_has_the_status_and_the_words_of_the_protocol(server: Server) -> None:
    said = asked("wrong", server)

    codes = {name: code.removeprefix("StatusCode.") for name, (code, _) in said.items()}
    assert codes == {
        "model": "NOT_FOUND",
        "slash": "NOT_FOUND",
        "shape": "INVALID_ARGUMENT",
        "name": "INVALID_ARGUMENT",
        "both": "INVALID_ARGUMENT",
        "more": "INVALID_ARGUMENT",
        "high": "INVALID_ARGUMENT",
        "half": "INVALID_ARGUMENT",
        "large": "RESOURCE_EXHAUSTED",
        "load": "PERMISSION_DENIED",
        "unknown": "UNIMPLEMENTED",
    }
    assert "inputs[0].shape: shape" in said["shape"][1]
    assert "serve.model_control" in said["load"][1]


def test_a_call_past_its_deadline_or_cancelled_costs_nobody_else(
    tmp_path: Path, begin: Begin
) -> None:
    running = begin(made(tmp_path, kind=Kind(work=1500)))

    said = asked("late", running)

    assert said["late"][0] == "StatusCode.DEADLINE_EXCEEDED"
    assert said["after"] == len(PIXELS)


def test_open_calls_are_answered_before_the_server_stops(tmp_path: Path, begin: Begin) -> None:
    running = begin(made(tmp_path, kind=Kind(work=1200)))
    with subprocess.Popen(words("stopped", running), stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout.readline() == "asked\n"

        code = running.stop()

        said = json.loads(client.stdout.readline())
    assert code == 0
    assert said["done"] == ["answered"] * 8


def test_keys_and_certificates_are_those_of_http(tmp_path: Path, begin: Begin) -> None:
    make_certificate(tmp_path / "tls")
    root = made(tmp_path, ", tls: {cert: tls/cert.pem, key: tls/key.pem}")
    key = mlstack(root, "serve", "keys", "add", "one", "--quiet").stdout.strip()
    running = begin(root)

    said = asked("with_key", running, key, str(root / "tls/cert.pem"))

    assert said["live"]
    assert said["without"][0] == "StatusCode.UNAUTHENTICATED"
    assert said["with"] == len(PIXELS)


def test_a_renewed_certificate_is_taken_up_and_a_wrong_one_is_not(
    tmp_path: Path, begin: Begin
) -> None:
    first = make_certificate(tmp_path / "tls")
    running = begin(made(tmp_path, ", tls: {cert: tls/cert.pem, key: tls/key.pem}"))
    host, _, port = address(running).rpartition(":")

    def serial() -> int:
        shown = ssl.get_server_certificate((host, int(port)), timeout=10)
        return x509.load_pem_x509_certificate(shown.encode()).serial_number

    before = serial()
    renewed = make_certificate(tmp_path / "tls")
    after = serial()
    make_certificate(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "cert.pem", tmp_path / "tls" / "cert.pem")

    assert (before, after, serial()) == (first, renewed, renewed)


def test_a_port_that_is_taken_is_named_with_its_setting(tmp_path: Path) -> None:
    root = made(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        ran = mlstack(root, "serve", "--port", "0", "--set", f"serve.grpc_port={port}")

    assert ran.returncode == 6
    assert f"cannot listen on 127.0.0.1:{port}" in ran.stderr
    assert "serve.grpc_port" in ran.stderr


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
def test_numbers_that_are_none_are_sent_typed_as_well_as_raw(datatype: str) -> None:
    given = np.array([np.nan, np.inf, -np.inf, 0.1], DTYPES[datatype])
    asked = messages.ModelInferRequest(model_name=NAME)
    tensor = asked.inputs.add(name="x", datatype=datatype, shape=[1, 4])
    getattr(tensor.contents, CONTENTS[datatype]).extend(given.tolist())

    question = infer_question(asked, "/infer")

    assert question.refused is None
    assert question.body.endswith(given.tobytes())


def test_every_datatype_of_numbers_has_its_place_in_a_message() -> None:
    assert {*CONTENTS, "FP16"} == {*DTYPES}
