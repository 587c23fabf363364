"""Spans by OTLP, as a collector receives them."""

import gzip
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from serving import CONFIG, NAME, end, eventually, make_image, make_package, mlstack, start

from mlstack.errors import MachineError
from mlstack.serve.worker.spans import Spans

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
SERVER_KIND, ERROR = 2, 2  # SPAN_KIND_SERVER, STATUS_CODE_ERROR in trace.proto


@dataclass
class Collector:
    """An endpoint of OTLP over HTTP, and the spans that it was sent."""

    url: str = ""
    spans: list[Any] = field(default_factory=list)
    services: set[str] = field(default_factory=set)
    paths: set[str] = field(default_factory=set)

    def take(self, path: str, body: bytes) -> None:
        self.paths.add(path)
        for sent in ExportTraceServiceRequest.FromString(body).resource_spans:
            named = {one.key: one.value.string_value for one in sent.resource.attributes}
            self.services.add(named["service.name"])
            for scope in sent.scope_spans:
                self.spans += scope.spans

    def with_id(self, request_id: str) -> Any:
        return next(one for one in self.spans if said(one).get("mlstack.request_id") == request_id)


def said(span: Any) -> dict[str, Any]:
    return {one.key: one.value.string_value or one.value.int_value for one in span.attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            found.take(self.path, body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


def project(root: Path, endpoint: str) -> Path:
    (root / "mlstack.yaml").write_text(CONFIG + f"serve: {{otlp_endpoint: '{endpoint}'}}\n")
    make_package(root)
    return root


def test_each_answer_is_a_span_of_its_callers_trace_or_begins_one(
    tmp_path: Path, collector: Collector
) -> None:
    server = start(project(tmp_path, collector.url + "/"))
    image = make_image(tmp_path / "one.png", 1)
    with httpx.Client(base_url=server.url) as client:

        def ask(name: str, body: bytes, flags: str = "") -> httpx.Response:
            headers = {"x-request-id": name}
            if flags:
                headers["traceparent"] = f"00-{TRACE}-{PARENT}-{flags}"
            return client.post("/predict", content=body, headers=headers)

        mine, unsampled, own = ask("a", image, "01"), ask("b", image, "00"), ask("c", image)
        ask("d", b"no picture", "01")
    assert server.stop() == 0  # sends what is left
    end(server)

    span = collector.with_id("a")
    assert (collector.paths, collector.services) == ({"/v1/traces"}, {NAME})
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert mine.headers["traceparent"] == f"00-{TRACE}-{span.span_id.hex()}-01"
    assert (span.name, span.kind) == ("POST predict", SERVER_KIND)
    assert 0 < span.end_time_unix_nano - span.start_time_unix_nano < 10e9
    assert said(span)["mlstack.prediction_id"] == mine.json()["prediction_id"]
    assert said(span)["http.response.status_code"] == 200
    began = collector.with_id("c")
    assert began.parent_span_id == b""
    assert own.headers["traceparent"].split("-")[1] == began.trace_id.hex() != TRACE
    refused = collector.with_id("d")
    assert said(refused)["http.response.status_code"] == 400
    assert refused.status.code != ERROR
    assert unsampled.status_code == 200
    assert not [one for one in collector.spans if said(one)["mlstack.request_id"] == "b"]


def test_a_collector_that_is_away_is_told_once_and_costs_nobody_an_answer(tmp_path: Path) -> None:
    server = start(
        project(tmp_path, "http://127.0.0.1:9"), environment={"OTEL_BSP_SCHEDULE_DELAY": "100"}
    )
    image = make_image(tmp_path / "one.png", 1)
    with httpx.Client(base_url=server.url) as client:
        for _ in range(3):
            assert client.post("/predict", content=image).status_code == 200
        stderr = tmp_path / "stderr.txt"
        eventually(lambda: "warning: spans cannot be sent" in stderr.read_text())
        assert client.post("/predict", content=image).status_code == 200
    end(server)

    assert stderr.read_text().count("spans cannot be sent") == 1
    assert "Traceback" not in stderr.read_text()


@pytest.mark.parametrize(
    "missing", ["opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter"]
)
def test_a_library_that_is_missing_is_told_with_what_to_type(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)

    with pytest.raises(MachineError) as caught:
        Spans("http://127.0.0.1:4318", NAME)

    assert missing in caught.value.problem
    assert "mlstack[otel]" in caught.value.hint


def test_an_endpoint_that_is_no_url_is_a_mistake_in_the_config(tmp_path: Path) -> None:
    done = mlstack(project(tmp_path, "localhost:4318"), "serve")

    assert done.returncode == 2
    assert "otlp_endpoint" in done.stderr
