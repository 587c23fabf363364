"""Whatever is sent: a 4xx that names the field, never a 500."""

import json
import socket
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import NAME, Server

from mlstack.records.server import LogSpec
from mlstack.serve.worker.answers import Refused

INFER = f"/v2/models/{NAME}/infer"


def tensor(**changes: object) -> dict[str, object]:
    good = {"name": "images", "shape": [1, 16, 16, 1], "datatype": "UINT8", "data": [0] * 256}
    return {"inputs": [{k: v for k, v in {**good, **changes}.items() if v is not ...}]}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "body"),
        ({"inputs": []}, "inputs"),
        ({"inputs": 3}, "inputs"),
        (tensor(name="image"), "inputs[0].name"),
        (tensor(name=...), "inputs[0]"),
        (tensor(datatype="FP32"), "inputs[0].datatype"),
        (tensor(shape=[256]), "inputs[0].shape"),
        (tensor(shape=[1, 8, 32, 1]), "inputs[0].shape"),
        (tensor(shape=[2, 16, 16, 1]), "inputs[0].data"),
        (tensor(shape=[0, 16, 16, 1], data=[]), "inputs[0].shape"),
        (tensor(shape=[-1, 16, 16, 1]), "inputs[0].shape"),
        (tensor(shape=["1", 16, 16, 1]), "inputs[0].shape"),
        (tensor(data=[0] * 255 + [256]), "inputs[0].data"),
        (tensor(data=[0] * 255 + [-1]), "inputs[0].data"),
        (tensor(data=[0] * 255 + [0.5]), "inputs[0].data"),
        (tensor(data=[0] * 255 + ["0"]), "inputs[0].data"),
        (tensor(data=[0] * 255 + [None]), "inputs[0].data"),
        (tensor(data=[[0], [0, 1]]), "inputs[0].data"),
        (tensor(data=...), "inputs[0].data"),
        (tensor(data=..., parameters={"binary_data_size": 256}), "inputs[0].parameters"),
        (tensor(data=..., parameters={"binary_data_size": True}), "inputs[0].parameters"),
        ({**tensor(), "outputs": [{"name": "nothing"}]}, "outputs[0].name"),
        ({"inputs": tensor()["inputs"] * 2}, "inputs[1].name"),
    ],
)
def test_a_wrong_v2_request_is_refused_with_its_field(
    server: Server, body: dict[str, object], field: str
) -> None:
    answer = httpx.post(server.url + INFER, json=body)

    assert answer.status_code == 400, answer.text
    assert answer.json()["field"].startswith(field)
    assert answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "kind", "field"),
    [
        (b"", "image/png", "body"),
        (b"not an image", "image/png", "body"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "image/png", "body"),
        (b"{", "application/json", "body"),
        (b"[]", "application/json", "body"),
        (b"{}", "application/json", "body"),
        (b'{"image": 3}', "application/json", "image"),
        (b'{"image": "****"}', "application/json", "image"),
        (b'{"images": ["aGFsbG8="]}', "application/json", "images[0]"),
        (b'{"images": []}', "application/json", "images"),
        (b'{"inputs": [[1, 2], [3]]}', "application/json", "inputs"),
        (b'{"inputs": {"other": [1]}}', "application/json", "inputs"),
        (b'{"inputs": 1e999}', "application/json", ""),
        (b'{"picture": "x"}', "application/json", "body"),
        (b'{"image": "x", "inputs": 1}', "application/json", "body"),
        (b"--x\r\n", "multipart/form-data; boundary=x", "body"),
        (b"--x\r\n", "multipart/form-data", "body"),
        (b"\xff\xfe", "application/json", "body"),
    ],
)
def test_a_wrong_body_of_predict_is_refused_with_its_field(
    server: Server, body: bytes, kind: str, field: str
) -> None:
    answer = httpx.post(f"{server.url}/predict", content=body, headers={"content-type": kind})

    assert answer.status_code == 400, answer.text
    assert answer.json()["field"].startswith(field)


@pytest.mark.parametrize("length", ["-1", "x", "99999", "", "1e3", "9" * 40])
def test_a_wrong_header_length_is_refused(server: Server, length: str) -> None:
    body = json.dumps(tensor()).encode()

    answer = httpx.post(
        server.url + INFER, content=body, headers={"Inference-Header-Content-Length": length}
    )

    assert answer.status_code == 400
    assert answer.json()["field"] == "Inference-Header-Content-Length"


def test_binary_tensors_must_fit_to_the_byte(server: Server) -> None:
    head = json.dumps(tensor(data=..., parameters={"binary_data_size": 256})).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}

    exact = httpx.post(server.url + INFER, content=head + bytes(256), headers=headers)
    short = httpx.post(server.url + INFER, content=head + bytes(255), headers=headers)
    long = httpx.post(server.url + INFER, content=head + bytes(257), headers=headers)

    assert [exact.status_code, short.status_code, long.status_code] == [200, 400, 400]
    assert short.json()["field"] == "inputs[0].parameters.binary_data_size"
    assert long.json()["field"] == "body"


def test_unknown_paths_wrong_methods_and_large_bodies(server: Server) -> None:
    with httpx.Client(base_url=server.url) as client:
        assert client.get("/nothing").status_code == 404
        assert client.get("/v2/models").status_code == 404
        assert client.post(f"/v2/models/{NAME}/explain").status_code == 404
        wrong = client.get("/predict")
        assert wrong.status_code == 405
        assert wrong.headers["allow"] == "POST"
        assert client.delete("/metrics").status_code == 405
        large = client.post("/predict", content=b"\0" * 17_000_000)
        assert large.status_code == 413
        assert large.json()["field"] == "body"
        many = client.post("/predict", content=(b"\0" * 1_000_000 for _ in range(18)))
        assert many.status_code == 413
        packed = client.post("/predict", content=b"x", headers={"content-encoding": "gzip"})
        assert packed.status_code == 415
        named = client.post("/predict", content=b"x", headers={"x-request-id": "a" * 200})
        assert named.json()["field"] == "x-request-id"


def test_too_many_rows_are_refused(server: Server) -> None:
    rows = 1025
    head = json.dumps(
        tensor(shape=[rows, 16, 16, 1], data=..., parameters={"binary_data_size": 256 * rows})
    ).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}

    answer = httpx.post(server.url + INFER, content=head + bytes(256 * rows), headers=headers)

    assert answer.status_code == 413
    assert answer.json()["field"] == "inputs"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"{}", "body"),
        (b'{"prediction_id": "x", "label": "1"}', "prediction_id"),
        (b'{"prediction_id": 3, "label": "1"}', "prediction_id"),
        (b'{"prediction_id": "01a20b8a-ed19-7b58-bc87-383c675fb4f6", "label": "cat"}', "label"),
        (b'{"prediction_id": "01a20b8a-ed19-7b58-bc87-383c675fb4f6"}', "body"),
    ],
)
def test_wrong_feedback_is_refused_with_its_field(server: Server, body: bytes, field: str) -> None:
    answer = httpx.post(f"{server.url}/feedback", content=body)

    assert answer.status_code == 400
    assert answer.json()["field"] == field


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["inputs", "image", "images", "name", "shape", "datatype", "data"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
relaxed = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)


@relaxed
@given(body=st.binary(max_size=200) | json_like.map(lambda value: json.dumps(value).encode()))
def test_a_hundred_strange_bodies_never_give_a_500(server: Server, body: bytes) -> None:
    for path in (INFER, "/predict", "/feedback"):
        answer = httpx.post(server.url + path, content=body)
        assert 400 <= answer.status_code < 500, (path, body, answer.text)


@relaxed
@given(where=st.sampled_from(["name", "shape", "datatype", "data", "parameters"]), value=json_like)
def test_strange_values_in_a_good_request_never_give_a_500(
    server: Server, where: str, value: object
) -> None:
    body = json.dumps(tensor(**{where: value})).encode()

    answer = httpx.post(server.url + INFER, content=body)

    assert answer.status_code in (200, 400), (body, answer.text)


def test_bytes_that_are_no_http_do_not_hurt(server: Server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    for sent in (b"\0\1\2\3" * 100, b"GET\r\n\r\n", b"POST /predict HTTP/1.1\r\n" * 3 + b"\r\n"):
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(4096)[:12] in (b"", b"HTTP/1.1 400"), sent

    assert httpx.get(f"{server.url}/health/ready").status_code == 200
    assert "Traceback" not in (server.project / "stderr.txt").read_text()


def test_refused_requests_are_in_the_metrics(server: Server) -> None:
    httpx.post(f"{server.url}/predict", content=b"no image")

    assert any('route="predict",code="400"' in name for name in server.metrics())
    assert Path(server.project / ".mlstack" / "serve.json").is_file()


@pytest.mark.parametrize(
    ("spec", "field", "status", "noted"),
    [
        (LogSpec(), "rows[0].age", 400, "rows[0].age: needs a number, got `secret`"),
        (LogSpec(redact=["age"]), "rows[0].age", 400, "rows[0].age: refused"),
        (LogSpec(redact=["age"]), "age", 400, "age: refused"),
        (LogSpec(redact=["age"]), "", 400, "body: refused"),
        (LogSpec(redact=["age"]), "size", 400, "size: needs a number, got `secret`"),
        (LogSpec(inputs=False), "size", 400, "size: refused"),
        (LogSpec(inputs=False), "", 429, "needs a number, got `secret`"),
    ],
)
def test_what_was_refused_is_noted_without_values_that_the_log_must_not_hold(
    spec: LogSpec, field: str, status: int, noted: str
) -> None:
    refused = Refused(status, "needs a number, got `secret`", field=field)

    assert refused.noted(spec) == noted
