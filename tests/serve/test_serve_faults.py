"""A real server under bad input: no 500, no hang, no growth of memory."""

import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image
from serving import CONFIG, NAME, Server, end, make_free_graph, start

from mlstack.serve.worker import decode

INFER = f"/v2/models/{NAME}/infer"


@pytest.fixture(scope="module")
def free(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of a graph that takes floats."""
    root = tmp_path_factory.mktemp("free")
    (root / "mlstack.yaml").write_text(CONFIG)
    make_free_graph(root / "free.onnx")
    running = start(root, "--model", "free.onnx")
    yield running
    end(running)


def binary(values: list[float], shape: list[int]) -> dict[str, object]:
    content = np.array(values, np.float32).tobytes()
    tensor = {"name": "rows", "shape": shape, "datatype": "FP32"}
    tensor["parameters"] = {"binary_data_size": len(content)}
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    return {"content": head + content, "headers": headers}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 3e38])
def test_numbers_that_are_none_are_answered_as_null(free: Server, value: float) -> None:
    answer = httpx.post(free.url + INFER, **binary([value] * 4, [1, 4]))

    assert answer.status_code == 200
    assert answer.json()["outputs"][0]["data"] == [None, None]


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e999", "-1e999", "3.5e38", '"1"', "null"])
def test_numbers_that_json_has_not_are_refused(free: Server, text: str) -> None:
    for count in (4, 4000):  # both decoders
        body = '{"inputs":[[' + ",".join([text] * count) + "]]}"
        answer = httpx.post(f"{free.url}/predict", content=body.encode())

        assert answer.status_code == 400, (text, answer.text)


def bomb(side: int) -> bytes:
    """Write a PNG of that many pixels squared in a few kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + kind + data + check

    size = side.to_bytes(4, "big")
    packer = zlib.compressobj(9)
    rows = b"".join(
        packer.compress(bytes(min(side, 60_000) // 8 + 1)) for _ in range(min(side, 4000))
    )
    head = chunk(b"IHDR", size + size + bytes([1, 0, 0, 0, 0]))
    data = chunk(b"IDAT", rows + packer.flush())
    return b"\x89PNG\r\n\x1a\n" + head + data + chunk(b"IEND", b"")


def noise(kind: str) -> bytes:
    content = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(content, kind)
    return content.getvalue()


@pytest.mark.parametrize("side", [30_000, 60_000, 2**31 - 1])
def test_images_that_unpack_to_gigabytes_are_refused(server: Server, side: int) -> None:
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss

    answers = [
        httpx.post(f"{server.url}/predict", content=bomb(side), timeout=30) for _ in range(3)
    ]

    assert {answer.status_code for answer in answers} == {400}
    assert process.memory_info().rss - before < 50e6


def test_a_form_of_very_many_files_is_refused_before_they_are_decoded(server: Server) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    part = head + noise("PNG") + b"\r\n"

    answer = httpx.post(
        f"{server.url}/predict",
        content=part * (decode.MAX_IMAGES + 1) + b"--b--\r\n",
        headers={"content-type": "multipart/form-data; boundary=b"},
        timeout=60,
    )

    assert (answer.status_code, answer.json()["field"]) == (400, "body")
    assert "more than 1024 files" in answer.json()["error"]


def test_truncated_images_are_refused_wherever_they_are_cut(server: Server) -> None:
    for content in (noise("JPEG"), noise("PNG")):
        for tenth in range(10):
            cut = content[: len(content) * tenth // 10]
            answer = httpx.post(f"{server.url}/predict", content=cut)
            assert answer.status_code == 400, (tenth, answer.text)


def test_a_request_larger_than_a_batch_is_answered_row_by_row(free: Server) -> None:
    rows = np.random.default_rng(0).normal(size=(1000, 4)).astype(np.float32)

    answer = httpx.post(free.url + INFER, **binary(rows.ravel().tolist(), [1000, 4]))

    got = np.array(answer.json()["outputs"][0]["data"]).reshape(1000, 2)
    assert got == pytest.approx(np.repeat(rows.sum(axis=1)[:, None], 2, axis=1), abs=1e-4)


@pytest.mark.parametrize("given", ["0", "-1", "x", "1.5", "99999999", ""])
def test_a_time_that_is_none_is_refused(free: Server, given: str) -> None:
    answer = httpx.post(
        f"{free.url}/predict", json={"inputs": [[1, 2, 3, 4]]}, headers={"x-timeout-ms": given}
    )

    assert answer.status_code == 400
    assert answer.json()["field"] == "x-timeout-ms"


def test_bad_input_leaves_nothing_behind(server: Server) -> None:
    process = psutil.Process(server.process.pid)
    large = b'{"inputs": [' + b"[" * 50_000
    wrong = json.dumps({"inputs": [{"name": "images", "shape": [1], "datatype": "x"}]}).encode()
    bodies = [large, wrong, noise("JPEG")[:500], b"\0" * 100_000, bomb(60_000)[:3000], b"{" * 5000]

    def send(times: int) -> None:
        with httpx.Client(base_url=server.url) as client:
            for _ in range(times):
                for body in bodies:
                    for path in ("/predict", INFER, "/feedback"):
                        assert 400 <= client.post(path, content=body).status_code < 500

    send(20)
    before = process.memory_info().rss
    send(60)

    assert process.memory_info().rss - before < 10e6
    assert "Traceback" not in (Path(server.project) / "stderr.txt").read_text()
