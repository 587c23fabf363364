"""One running server, asked in every way it promises to answer."""

import base64
import json
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
from serving import CLASSES, NAME, SPEC, Server, expected, mlstack

from mlstack.inputs import images


@pytest.fixture(scope="module")
def image(home: Path) -> bytes:
    return (home / "models" / NAME / "2" / "mlstack" / "golden" / "1.png").read_bytes()


@pytest.fixture(scope="module")
def truth(home: Path, image: bytes) -> np.ndarray:
    return expected(home / "models" / NAME / "2", image)


def test_the_newest_package_goes_live_when_none_was(server: Server) -> None:
    ready = httpx.get(f"{server.url}/health/ready")

    assert ready.status_code == 200
    assert ready.json()["version"] == 2
    assert ready.json()["provider"] == "CPUExecutionProvider"
    assert ready.json()["io_binding"] == []
    assert "promoted the newest, 2" not in (server.project / "stderr.txt").read_text()  # --json
    assert json.loads(server.said)["kind"] == "serve.ready"


@pytest.mark.parametrize("way", ["raw", "curl", "json", "data-url", "form", "inputs"])
def test_every_way_to_send_an_image_gives_the_same_prediction(
    server: Server, image: bytes, truth: np.ndarray, way: str
) -> None:
    text = base64.b64encode(image).decode()
    pixels = images.decode(image, SPEC)
    sent = {
        "raw": {"content": image, "headers": {"content-type": "image/png"}},
        "curl": {
            "content": image,
            "headers": {"content-type": "application/x-www-form-urlencoded"},
        },
        "json": {"json": {"image": text}},
        "data-url": {"json": {"image": f"data:image/png;base64,{text}"}},
        "form": {"files": {"file": ("a.png", image, "image/png")}},
        "inputs": {"json": {"inputs": pixels.tolist()}},
    }[way]

    answer = httpx.post(f"{server.url}/predict", headers=sent.pop("headers", None), **sent)

    body = answer.json()
    assert answer.status_code == 200
    assert body["prediction"] == CLASSES[int(truth.argmax())]
    assert list(body["probabilities"].values()) == pytest.approx(truth.tolist(), abs=1e-5)
    assert body["model"] == NAME
    assert body["version"] == 2
    assert answer.headers["x-prediction-id"] == body["prediction_id"]
    assert answer.headers["x-model-version"] == "2"


def test_several_images_are_answered_in_order(server: Server, home: Path) -> None:
    golden = home / "models" / NAME / "2" / "mlstack" / "golden"
    contents = [(golden / f"{i % 3}.png").read_bytes() for i in range(150)]  # two batches and more
    sent = {"images": [base64.b64encode(c).decode() for c in contents]}

    said = httpx.post(f"{server.url}/predict", json=sent).json()["predictions"]

    wanted = [expected(home / "models" / NAME / "2", c) for c in contents[:3]]
    for index, one in enumerate(said):
        shares = list(one["probabilities"].values())
        assert shares == pytest.approx(wanted[index % 3].tolist(), abs=1e-5)
    assert len({one["prediction_id"] for one in said}) == 150


def test_prediction_ids_sort_by_time(server: Server, image: bytes) -> None:
    ids = []
    for _ in range(5):
        ids.append(httpx.post(f"{server.url}/predict", content=image).json()["prediction_id"])
        httpx.get(f"{server.url}/v2")

    assert ids == sorted(ids)


@pytest.mark.parametrize("as_bytes", [True, False])
def test_the_triton_client_gets_the_models_answer(
    server: Server, image: bytes, truth: np.ndarray, as_bytes: bool
) -> None:
    script = Path(__file__).with_name("triton_call.py")
    pixels = images.decode(image, SPEC)[None].repeat(3, axis=0)

    ran = subprocess.run(
        [sys.executable, script, server.url.removeprefix("http://"), NAME, str(as_bytes)],
        input=pixels.tobytes(),
        capture_output=True,
    )

    assert ran.returncode == 0, ran.stderr.decode()
    got = np.frombuffer(ran.stdout, np.float32).reshape(3, 10)
    assert got == pytest.approx(np.stack([truth] * 3), abs=1e-6)


def test_v2_json_answers_with_id_version_and_prediction_id(server: Server, image: bytes) -> None:
    pixels = images.decode(image, SPEC)
    request = {
        "id": "mine",
        "inputs": [
            {
                "name": "images",
                "shape": [1, 16, 16, 1],
                "datatype": "UINT8",
                "data": pixels.ravel().tolist(),
            }
        ],
        "outputs": [{"name": "probabilities"}],
    }

    answer = httpx.post(f"{server.url}/v2/models/{NAME}/versions/2/infer", json=request)

    body = answer.json()
    assert body["id"] == "mine"
    assert body["model_version"] == "2"
    assert [output["name"] for output in body["outputs"]] == ["probabilities"]
    assert body["outputs"][0]["shape"] == [1, 10]
    assert body["parameters"]["prediction_id"] == answer.headers["x-prediction-id"]


def test_metadata_and_health_follow_the_protocol(server: Server) -> None:
    with httpx.Client(base_url=server.url) as client:
        assert client.get("/health/live").status_code == 200
        assert client.get("/v2/health/live").status_code == 200
        assert client.get("/v2/health/ready").status_code == 200
        assert client.get("/v2").json()["extensions"] == ["binary_tensor_data", "model_repository"]
        model = client.get(f"/v2/models/{NAME}").json()
        assert model["versions"] == ["2"]
        assert model["inputs"] == [
            {"name": "images", "datatype": "UINT8", "shape": [-1, 16, 16, 1]}
        ]
        assert client.get(f"/v2/models/{NAME}/versions/2/ready").status_code == 200
        assert client.get(f"/v2/models/{NAME}/versions/7/ready").status_code == 404
        assert client.get("/v2/models/other").status_code == 404
        assert client.head("/health/ready").content == b""


def test_openapi_names_every_route_and_no_other(server: Server) -> None:
    document = httpx.get(f"{server.url}/openapi.json").json()

    assert document["openapi"].startswith("3.1")
    for path, operations in document["paths"].items():
        real = path.format(name=NAME, version=2)
        for method in ("get", "post"):
            code = httpx.request(method.upper(), server.url + real).status_code
            assert (code == 405) == (method not in operations), (path, method, code)
            assert code != 404, path
    assert document["components"]["schemas"]["Feedback"]["properties"]["label"]["enum"] == CLASSES


def test_metrics_count_what_was_answered(server: Server, image: bytes) -> None:
    key = f'mlstack_requests_total{{model="{NAME}",version="2",route="predict",code="200"}}'
    before = server.metrics().get(key, 0)

    for _ in range(3):
        httpx.post(f"{server.url}/predict", content=image)

    after = server.metrics()
    assert after[key] == before + 3
    assert after["mlstack_live_version"] == 2
    assert after["mlstack_log_rows_lost_total"] == 0
    seconds = f'mlstack_request_duration_seconds_count{{model="{NAME}",route="predict"}}'
    assert after[seconds] >= after[key]
    calls = after[f'mlstack_batch_size_count{{model="{NAME}"}}']
    assert after[f'mlstack_inference_duration_seconds_count{{model="{NAME}"}}'] == calls >= 3
    assert after[f'mlstack_queue_duration_seconds_count{{model="{NAME}"}}'] >= calls


def test_the_server_process_holds_no_torch_and_no_command_line_libraries(server: Server) -> None:
    modules = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, mlstack.serve.worker.__main__; print(*sys.modules)",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    command = Path(f"/proc/{server.process.pid}/cmdline").read_text()

    for heavy in ("torch", "pydantic", "typer", "rich", "starlette", "fastapi", "pandas", "onnx"):
        assert heavy not in modules
    for late in ("pyarrow.compute", "pyarrow.parquet", "tokenizers"):  # 17 MB, at need
        assert late not in modules
    assert "libtorch" not in maps
    assert "pyarrow/_compute" not in maps
    assert "pydantic" not in maps
    assert "mlstack.serve.worker" in command


def test_predict_answers_files_like_the_server(server: Server, home: Path) -> None:
    files = [f"models/{NAME}/2/mlstack/golden/{i}.png" for i in range(3)]

    here = mlstack(home, "serve", "predict", *files, "--json")
    there = mlstack(home, "serve", "predict", *files, "--json", "--url", server.url)
    quiet = mlstack(home, "serve", "predict", *files, "--quiet")

    assert here.returncode == there.returncode == quiet.returncode == 0, here.stderr
    ours, theirs = json.loads(here.stdout), json.loads(there.stdout)
    assert ours["version"] == theirs["version"] == 2
    labels = [p["prediction"] for p in ours["predictions"]]
    assert [p["prediction"] for p in theirs["predictions"]] == labels
    assert quiet.stdout.split() == labels


def test_predict_says_when_a_file_holds_several_rows(
    server: Server, home: Path, image: bytes, tmp_path: Path
) -> None:
    coded = base64.b64encode(image).decode()
    (tmp_path / "two.json").write_text(json.dumps({"images": [coded, coded]}))

    ran = mlstack(home, "serve", "predict", str(tmp_path / "two.json"), "--url", server.url)

    assert ran.returncode == 3
    assert "several rows" in ran.stderr
    assert "bug of mlstack" not in ran.stderr


def test_status_says_what_is_live_and_running(server: Server, home: Path) -> None:
    told = mlstack(home, "serve", "status", "--json")
    shown = mlstack(home, "serve", "status")

    said = json.loads(told.stdout)
    assert said["live"] == said["serving"] == 2
    assert said["ready"] is True
    assert said["url"] == server.url
    assert [p["number"] for p in said["packages"]] == [1, 2]
    assert "version 2 answers on" in shown.stdout
    assert "test/acc" in shown.stdout


def test_bench_measures_and_recommends(home: Path) -> None:
    ran = mlstack(home, "serve", "bench", "--largest", "4", "--json")

    said = json.loads(ran.stdout)
    assert [t["rows"] for t in said["timings"]] == [1, 2, 4]
    assert said["best_size"] in (1, 2, 4)
    assert "serve.batching.max_size" in said["advice"]
    assert said["decode_ms"] > 0
    loads = {(one["payload"], one["connections"]) for one in said["loads"]}
    payloads = ("V2 binary", "JSON", "file")
    assert loads == {(payload, n) for payload in payloads for n in (1, 4, 16, 64)}
    assert all(one["requests_per_s"] > 0 and one["p50_ms"] > 0 for one in said["loads"])
    advice = said["load_advice"]
    assert ("1 connection sending" in advice) or ("connections sending" in advice)
    assert "1 connections" not in advice
    assert list(said["rows_per_s_by_device"]) == ["cpu"]
