"""What is seen from outside: ids, traces, lines on stderr, metrics."""

import errno
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from serving import CONFIG, NAME, Server, end, eventually, make_image, make_package, start

from mlstack.records import requests
from mlstack.serve import live as live_file
from mlstack.serve.worker import said, tracing
from mlstack.serve.worker.answers import Answer
from mlstack.serve.worker.request import Request
from mlstack.serve.worker.said import AccessLog

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("seen")
    (home / "mlstack.yaml").write_text(CONFIG + "serve: {log_format: json, access_log: true}\n")
    for number in (1, 2):
        make_package(home, number=number)
    live_file.promote(home / "models" / NAME, 1)
    return home


@pytest.fixture(scope="module")
def telling(home: Path) -> Iterator[Server]:
    server = start(home)
    yield server
    end(server)


def lines(home: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (home / "stderr.txt").read_text().splitlines()]


def line_of(home: Path, request_id: str) -> dict[str, object]:
    found: list[dict[str, object]] = []

    def look() -> bool:
        found[:] = [line for line in lines(home) if line.get("request_id") == request_id]
        return bool(found)

    eventually(look)
    (line,) = found
    return line


def test_a_trace_goes_through_to_the_answer_and_the_log(telling: Server, home: Path) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "traced"}

    answer = httpx.post(
        f"{telling.url}/predict", content=make_image(home / "1.png", 1), headers=headers
    )

    version, trace, span, flags = answer.headers["traceparent"].split("-")
    line = line_of(home, "traced")
    assert (version, trace, flags) == ("00", TRACE, "01")
    assert span != PARENT
    assert (line["trace_id"], line["parent_id"], line["span_id"]) == (TRACE, PARENT, span)
    assert (line["event"], line["status"], line["version"]) == ("request", 200, 1)
    assert line["prediction_id"] == answer.json()["prediction_id"]
    assert 0 < line["ms"] < 60_000


@pytest.mark.parametrize(
    "header",
    ["", "hello", f"00-{TRACE}-{PARENT}", f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01",
     f"ff-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-01-more", f"00-{TRACE.upper()}-{PARENT}-01",
     f"00-{TRACE}-{PARENT}-1"],
)  # fmt: skip
def test_a_traceparent_that_says_nothing_is_passed_over(telling: Server, header: str) -> None:
    answer = httpx.get(f"{telling.url}/v2", headers={"traceparent": header})

    assert answer.status_code == 200
    assert "traceparent" not in answer.headers


def test_a_later_version_of_the_header_may_say_more() -> None:
    trace = tracing.read(f"01-{TRACE}-{PARENT}-01-more".encode())

    assert trace is not None
    assert trace.header() == f"00-{TRACE}-{trace.span_id}-01".encode()


@pytest.mark.parametrize("path", ["/health/live", "/nothing", "/metrics", "/predict"])
def test_every_answer_has_a_request_id(telling: Server, home: Path, path: str) -> None:
    own = httpx.get(telling.url + path)
    given = httpx.get(telling.url + path, headers={"x-request-id": f"mine{path}"})

    assert len(own.headers["x-request-id"]) == 36
    assert given.headers["x-request-id"] == f"mine{path}"
    assert line_of(home, f"mine{path}")["status"] == given.status_code


def test_a_refused_request_is_found_in_the_request_log_by_its_id(
    telling: Server, home: Path
) -> None:
    httpx.post(f"{telling.url}/predict", content=b"none", headers={"x-request-id": "refused"})
    (wal,) = (home / ".mlstack" / "requests" / "wal").iterdir()

    def logged() -> list[object]:
        table = requests.read_wal(wal)
        rows = table.to_pylist() if table is not None else []
        return [row["status"] for row in rows if row["request_id"] == "refused"]

    eventually(logged)
    assert logged() == [400]


def test_what_happens_is_told_as_json_too(telling: Server, home: Path) -> None:
    live_file.promote(home / "models" / NAME, 2)
    eventually(lambda: any(line.get("event") == "reload" for line in lines(home)))

    told = next(line for line in lines(home) if line.get("event") == "reload")

    assert told["level"] == "info"
    assert told["message"] == "version 2 answers"
    assert set(told) == {"ts", "level", "message", "event"}


def test_metrics_tell_what_is_loaded_since_when_and_on_what(telling: Server, home: Path) -> None:
    live = httpx.get(f"{telling.url}/health/ready").json()

    name = (
        f'mlstack_model_loaded_timestamp_seconds{{model="{NAME}",version="{live["version"]}",'
        f'role="live",provider="{live["provider"]}"}}'
    )

    assert live["provider"] == "CPUExecutionProvider"
    assert time.time() - 300 < telling.metrics()[name] < time.time()


def test_who_does_not_read_stderr_stops_no_answer(home: Path, tmp_path: Path) -> None:
    (tmp_path / "mlstack.yaml").write_text(CONFIG + "serve: {access_log: true}\n")
    make_package(tmp_path)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)  # full before the server writes its first line
    os.set_blocking(writing, True)
    process = subprocess.Popen(
        [sys.executable, "-m", "mlstack", "serve", "--port", "0", "--json"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=writing, text=True,
    )  # fmt: skip
    os.close(writing)
    server = Server(process, json.loads(process.stdout.readline())["url"], tmp_path, "")

    with httpx.Client(base_url=server.url) as client:
        codes = {client.get("/v2").status_code for _ in range(200)}

    process.kill()
    os.close(reading)
    end(server)
    assert codes == {200}


def test_lines_are_written_again_when_the_disk_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    class Disk(io.StringIO):
        is_full = True

        def write(self, text: str) -> int:
            if self.is_full:
                raise OSError(errno.ENOSPC, "no space left on device")
            return super().write(text)

    monkeypatch.setattr(sys, "stderr", disk := Disk())
    kept = AccessLog(is_on=True)
    request = Request("GET", "/v2", {}, b"", SimpleNamespace(is_gone=False))
    kept.note(NAME, request, Answer(200, b""), 0.001)
    eventually(lambda: kept.lost == 1)

    disk.is_full = False
    kept.note(NAME, request, Answer(201, b""), 0.001)
    kept.close()

    assert json.loads(disk.getvalue())["status"] == 201


def test_lines_that_stderr_does_not_take_are_lost_and_counted() -> None:
    kept = AccessLog(is_on=False)
    request, answer = (
        Request("GET", "/v2", {}, b"", SimpleNamespace(is_gone=False)),
        Answer(200, b""),
    )

    for _ in range(said.MAX_LINES + 3):
        kept.note(NAME, request, answer, 0.001)

    assert kept.lost == 3
