"""The repository extension of V2, asked with the stock Triton client."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from serving import CONFIG, NAME, Server, end, make_image, make_package, mlstack, start

SCRIPT = """
import sys
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

address, name = sys.argv[1:]
client = triton.InferenceServerClient(address)
states = lambda: [(m["version"], m["state"]) for m in client.get_model_repository_index()]
assert states() == [("1", "READY"), ("2", "UNAVAILABLE")], states()
client.unload_model(name)
assert not client.is_model_ready(name)
assert states() == [("1", "UNAVAILABLE"), ("2", "UNAVAILABLE")], states()
client.load_model(name)
assert client.is_model_ready(name)
try:
    client.load_model("other")
except InferenceServerException as error:
    print(error.status(), error.message())
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in (1, 2):
        make_package(tmp_path, number=number, seed=number)
    return tmp_path


def served(root: Path, settings: str) -> Server:
    (root / "mlstack.yaml").write_text(CONFIG + settings)
    mlstack(root, "serve", "promote", "1")
    return start(root)


def test_the_triton_client_lists_unloads_and_loads(root: Path) -> None:
    server = served(root, "serve: {model_control: explicit}\n")

    words = [sys.executable, "-c", SCRIPT, server.url.removeprefix("http://"), NAME]
    ran = subprocess.run(words, capture_output=True, text=True)
    image = make_image(root / "one.png", 7)
    answer = httpx.post(f"{server.url}/predict", content=image)
    httpx.post(f"{server.url}/v2/repository/models/{NAME}/unload")
    gone = httpx.post(f"{server.url}/predict", content=image)

    end(server)
    assert ran.returncode == 0, ran.stderr
    assert "404" in ran.stdout and "this server has" in ran.stdout
    assert answer.status_code == 200
    assert gone.status_code == 503
    assert "retry-after" in gone.headers


def test_a_package_that_cannot_be_loaded_is_a_400_and_the_old_one_answers(root: Path) -> None:
    server = served(root, "serve: {model_control: explicit}\n")
    model = root / "models" / NAME / "2" / "model.onnx"
    model.write_bytes(model.read_bytes()[:-100])
    live = root / "models" / NAME / "live.json"
    live.write_text(live.read_text().replace('"live": 1', '"live": 2'))

    refused = httpx.post(f"{server.url}/v2/repository/models/{NAME}/load")
    answer = httpx.post(f"{server.url}/predict", content=make_image(root / "one.png", 7))

    end(server)
    assert refused.status_code == 400
    assert "manifest" in refused.json()["error"]
    assert answer.json()["version"] == 1


def test_requests_change_nothing_unless_the_file_says_so(root: Path) -> None:
    server = served(root, "")

    index = httpx.post(f"{server.url}/v2/repository/index", json={"ready": True})
    refused = httpx.post(f"{server.url}/v2/repository/models/{NAME}/unload")
    wrong = httpx.post(f"{server.url}/v2/repository/index", content=b"[1")

    end(server)
    assert [entry["version"] for entry in index.json()] == ["1"]
    assert refused.status_code == 403
    assert "serve.model_control" in refused.json()["error"]
    assert wrong.status_code == 400
