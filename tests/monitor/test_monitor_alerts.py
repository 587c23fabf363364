import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from monitor_log import Log, Watched, add_package

from mlstack.config.schema import Monitor
from mlstack.monitor import alerts, api
from mlstack.records.base import read, write
from mlstack.records.package import Live
from mlstack.records.report import Alert


def look(watched: Watched):
    return api.check(api.Where(watched.config), api.Asked())


def written(watched: Watched) -> list[Alert]:
    return [read(path, Alert) for path in sorted(watched.layout.alerts.glob("[!.]*.json"))]


ALERT = Alert(
    id="20260102-100000-abcd",
    model="m",
    version=1,
    created="2026-01-02T10:00:00Z",
    since="2026-01-02T09:00:00Z",
    summary="m version 1: something",
    columns=["center_x"],
    prediction_ids=["p1", "p2"],
)


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[dict], dict]]:
    got: list[dict] = []
    answer = {"status": 200}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            got.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(answer["status"])
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", got, answer
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_alert_names_columns_time_and_the_least_confident_predictions(watched: Watched):
    log = Log.of(300, seed=1, pixels=2)
    log.columns["confidence"][17] = 0.01
    watched.part(log)

    report = look(watched)

    (alert,) = written(watched)
    assert report.alert_file == f".mlstack/alerts/{alert.id}.json"
    assert "center_x" in alert.columns
    assert alert.since.startswith("2026-01-02T10:0")
    assert alert.prediction_ids[0] == "p1-1-17"
    assert len(alert.prediction_ids) == 20


def test_an_alert_that_goes_on_is_written_once_and_a_new_one_again(watched: Watched):
    watched.part(Log.of(300, seed=1, pixels=2))

    first, second = look(watched), look(watched)
    watched.part(Log.of(600, seed=2).later(1), hour="11")
    calm = look(watched)
    watched.part(Log.of(600, seed=3, pixels=2).later(2), hour="12")
    again = look(watched)

    assert first.alert_file == second.alert_file
    assert (second.exit_code(), calm.exit_code(), again.exit_code()) == (5, 0, 5)
    assert calm.alert_file is None
    assert again.alert_file != first.alert_file
    assert len(written(watched)) == 2


def test_another_version_has_alerts_of_its_own(watched: Watched):
    watched.part(Log.of(300, seed=1, pixels=2))
    first = look(watched)
    add_package(watched.root, 2, live=False)
    write(watched.layout.model("my_project") / "live.json", Live(live=2, previous=1))
    watched.part(Log.of(300, seed=2, pixels=2, version=2).later(1), hour="11")

    second = look(watched)

    assert second.version == 2
    assert second.alert_file != first.alert_file


def test_a_command_gets_the_alert_on_its_standard_input(watched: Watched):
    watched.set("  on_alert: ['log', 'exec:cat > told.json']")
    watched.part(Log.of(300, seed=1, pixels=2))

    report = look(watched)

    told = json.loads((watched.root / "told.json").read_text())
    assert told["kind"] == "monitor.alert"
    assert report.warnings == []


def test_a_wish_to_retrain_is_said_when_its_cause_is_there(watched: Watched):
    watched.set("  retrain: {when: drift}")
    watched.part(Log.of(300, seed=1, pixels=2))

    report = look(watched)

    assert "`mlstack run`" in report.warnings[0]


def test_a_command_that_fails_is_a_warning(tmp_path: Path):
    settings = Monitor(on_alert=["exec:echo out of order; exit 3", "exec:no-such-command-here"])

    first, second = alerts.tell(ALERT, settings, tmp_path)

    assert first == "`echo out of order; exit 3` ended with 3: out of order"
    assert "ended with 127" in second


def test_a_command_that_hangs_is_ended_with_all_its_children(tmp_path: Path):
    settings = Monitor(on_alert=["exec:(sleep 60; touch survived) | cat"])

    (warning,) = alerts.tell(ALERT, settings, tmp_path, timeout_s=0.3)

    assert "was ended after 0.3 s" in warning


def test_a_webhook_gets_what_alertmanager_would_send(webhook, tmp_path: Path):
    url, got, _ = webhook

    problems = alerts.tell(ALERT, Monitor(on_alert=[url]), tmp_path)

    (body,) = got
    assert problems == []
    assert (body["version"], body["status"]) == ("4", "firing")
    assert body["alerts"][0]["labels"]["columns"] == "center_x"
    assert body["alerts"][0]["startsAt"] == "2026-01-02T09:00:00Z"
    assert body["commonAnnotations"]["summary"] == "m version 1: something"


def test_a_webhook_that_refuses_or_is_not_there_is_a_warning(webhook, tmp_path: Path):
    url, _, answer = webhook
    answer["status"] = 500
    settings = Monitor(on_alert=[url, "http://127.0.0.1:1/", "http://["])

    refused, absent, malformed = alerts.tell(ALERT, settings, tmp_path)

    assert refused.endswith("answered 500")
    assert "was not reached" in absent
    assert "was not reached" in malformed
