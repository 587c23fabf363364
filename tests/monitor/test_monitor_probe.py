import http.server
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from monitor_log import Watched

from mlstack.errors import ConfigError
from mlstack.monitor import api
from mlstack.records import server as server_record
from mlstack.records.base import write
from mlstack.records.report import Probed

Endpoint = Callable[..., str]


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """Start a small server that answers as told; each request's headers are its own."""
    servers = []

    def start(*, ready: int = 200, predict: int = 200, said: str = "0", wait_s: float = 0) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self._answer(ready, {})

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                assert body.startswith(b"\x89PNG")
                assert self.headers["x-request-id"] == "mlstack-probe"
                time.sleep(wait_s)
                self._answer(predict, {"prediction": said})

            def _answer(self, status, body):
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def ask(watched: Watched, url: str | None, count: int = 1) -> Probed:
    *_, last = api.probed(api.Where(watched.config), url, count=count, interval_s=0.01)
    assert isinstance(last, Probed)
    return last


def test_a_healthy_endpoint_is_up(watched: Watched, endpoint: Endpoint):
    found = ask(watched, endpoint() + "/", count=3)

    assert found.exit_code() == 0
    assert found.headline() == "up"
    assert found.attempts == 3
    assert found.failures == {}
    assert found.p50_ms is not None


def test_without_a_url_the_server_that_runs_is_asked(watched: Watched, endpoint: Endpoint):
    state = watched.config.parent / ".mlstack"
    waits = [sys.executable, "-c", "import sys; sys.stdin.read()", "mlstack"]
    server = subprocess.Popen(waits, stdin=subprocess.PIPE)
    spec = server_record.ServerSpec(
        root=str(state.parent),
        model="digits",
        host="127.0.0.1",
        port=1,
        url=endpoint(),
        pid=server.pid,
        started="2026-01-01T00:00:00+00:00",
    )
    write(server_record.path(state), spec)

    found = ask(watched, None)
    server.communicate()
    ended = ask(watched, None)

    assert (found.url, found.failures) == (spec.url, {})
    assert ended.url == "http://127.0.0.1:8000"


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        ({"ready": 503}, "not-ready"),
        ({"predict": 500}, "http-5xx"),
        ({"predict": 400}, "http-4xx"),
        ({"said": "7"}, "wrong"),
    ],
)
def test_every_way_to_be_unwell_has_its_name(watched, endpoint, behaviour, kind):
    found = ask(watched, endpoint(**behaviour))

    assert found.failures == {kind: 1}
    assert found.exit_code() == 5
    assert found.last_problem


def test_a_wrong_answer_says_what_was_right(watched: Watched, endpoint: Endpoint):
    found = ask(watched, endpoint(said="7"))

    assert found.last_problem == "/predict answered `7`; the golden answer is `0`"


def test_an_answer_above_the_latency_limit_is_slow(watched: Watched, endpoint: Endpoint):
    watched.set("  service: {p99_ms: 20}")

    found = ask(watched, endpoint(wait_s=0.1))

    assert found.failures == {"slow": 1}
    assert "limit 20 ms" in found.last_problem


def test_nobody_listening_is_refused_and_no_answer_a_timeout(watched: Watched):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    nobody = ask(watched, f"http://127.0.0.1:{port}")

    assert nobody.failures == {"refused": 1}
    assert nobody.headline() == "down"


def test_a_host_that_nobody_knows_is_not_called_silent(watched: Watched):
    found = ask(watched, "http://no-such-host.invalid")

    assert found.failures == {"refused": 1}
    assert found.last_problem.startswith("nobody knows the host of http://no-such-host.invalid")


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host", "http://", "http:///x", ""])
def test_what_is_no_address_is_a_usage_error_and_nothing_is_down(watched: Watched, url: str):
    with pytest.raises(ConfigError, match="is no address of a server") as caught:
        ask(watched, url)

    assert "--url http://" in str(caught.value.hint)


@pytest.mark.slow
def test_an_endpoint_that_never_answers_is_a_timeout(watched: Watched):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = ask(watched, f"http://127.0.0.1:{silent.getsockname()[1]}")

    assert found.failures == {"timeout": 1}


def test_something_that_does_not_speak_http_is_broken(watched: Watched):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def babble():
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"220 mail ready\r\n")

        talker = threading.Thread(target=babble)
        talker.start()
        found = ask(watched, f"http://127.0.0.1:{server.getsockname()[1]}")
        talker.join()

    assert found.failures == {"broken": 1}


def test_without_a_golden_example_the_health_is_enough(watched: Watched, endpoint: Endpoint):
    (watched.layout.package("my_project", 1) / "mlstack" / "golden.json").unlink()

    assert ask(watched, endpoint(said="7")).exit_code() == 0
