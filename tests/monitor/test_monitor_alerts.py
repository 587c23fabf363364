import contextlib
import http.server
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import msgspec
import pytest
from monitor_log import Log, Watched, add_package, last

from mlstack.config.schema import Monitor
from mlstack.monitor import alerts, api
from mlstack.records.base import read, write
from mlstack.records.package import Live
from mlstack.records.report import ONGOING, Alert, Ongoing

DRIPS_S = 8.0


def look(watched: Watched):
    return last(api.check(api.Where(watched.config), api.Asked()))


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
    answer: dict = {"status": 200}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            got.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(answer["status"])
            self.end_headers()
            until = time.monotonic() + (DRIPS_S if answer.get("drips") else 0)
            with contextlib.suppress(OSError):  # the other side has gone
                while time.monotonic() < until:
                    self.wfile.write(b".")
                    time.sleep(0.05)

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


def state(watched: Watched) -> Ongoing:
    return read(watched.layout.alerts / ONGOING, Ongoing)


def test_an_alert_that_goes_on_or_soon_comes_back_is_written_once(watched: Watched):
    watched.part(Log.of(300, seed=1, pixels=2))

    first, second = look(watched), look(watched)
    watched.part(Log.of(600, seed=2).later(1), hour="11")
    calm = look(watched)
    watched.part(Log.of(600, seed=3, pixels=2).later(2), hour="12")
    again = look(watched)

    assert first.alert_file == second.alert_file == again.alert_file
    assert (second.exit_code(), calm.exit_code(), again.exit_code()) == (5, 0, 5)
    assert calm.alert_file is None
    assert len(written(watched)) == 1
    assert list(state(watched).alerts) == ["my_project/1"]


def test_an_alert_that_comes_back_later_is_a_new_one(watched: Watched):
    watched.set("  on_alert: ['exec:cat >> told']")
    watched.part(Log.of(300, seed=1, pixels=2))
    first = look(watched)
    watched.part(Log.of(600, seed=2).later(1), hour="11")
    look(watched)
    (ended,) = state(watched).ended.values()
    long_ago = msgspec.structs.replace(ended, at="2026-01-02T11:00:00Z")
    write(watched.layout.alerts / ONGOING, Ongoing(ended={"my_project/1": long_ago}))
    watched.part(Log.of(600, seed=3, pixels=2).later(2), hour="12")

    again = look(watched)

    assert again.alert_file != first.alert_file
    assert len(written(watched)) == 2
    assert (watched.root / "told").read_text().count('"monitor.alert"') == 2


def end_an_hour_ago(watched: Watched) -> None:
    """Make what the state says ended end an hour earlier."""
    before = state(watched)
    ((key, ended),) = before.ended.items()
    at = datetime.fromisoformat(ended.at) - alerts.BACK
    moved = msgspec.structs.replace(ended, at=f"{at:%Y-%m-%dT%H:%M:%SZ}")
    write(watched.layout.alerts / ONGOING, msgspec.structs.replace(before, ended={key: moved}))


def test_webhooks_hear_once_that_an_alert_is_over_when_it_has_been_for_an_hour(
    watched: Watched, webhook
):
    url, got, answer = webhook
    watched.set(f"  on_alert: ['{url}', 'exec:cat >> told', log]")
    watched.part(Log.of(300, seed=1, pixels=2))
    look(watched)
    watched.part(Log.of(600, seed=2).later(1), hour="11")
    look(watched)
    soon = look(watched)
    told_soon = [body["status"] for body in got]
    end_an_hour_ago(watched)
    answer["status"] = 500
    refused = look(watched)
    answer["status"] = 200

    for _ in range(3):
        look(watched)

    firing, _, resolved = got
    assert (told_soon, soon.warnings) == (["firing"], [])
    assert "answered 500" in refused.warnings[0]
    assert [body["status"] for body in got] == ["firing", "resolved", "resolved"]
    assert resolved["groupKey"] == firing["groupKey"]
    assert resolved["alerts"][0]["fingerprint"] == firing["alerts"][0]["fingerprint"]
    assert resolved["alerts"][0]["status"] == "resolved"
    assert resolved["alerts"][0]["endsAt"] == state(watched).ended["my_project/1"].at
    assert (watched.root / "told").read_text().count('"monitor.alert"') == 1


def test_nobody_hears_that_an_alert_is_over_that_is_open_again(watched: Watched, webhook):
    url, got, _ = webhook
    watched.set(f"  on_alert: ['{url}']")
    watched.part(Log.of(300, seed=1, pixels=2))
    look(watched)
    watched.part(Log.of(600, seed=2).later(1), hour="11")
    look(watched)
    watched.part(Log.of(600, seed=3, pixels=2).later(2), hour="12")
    look(watched)
    end_an_hour_ago(watched)

    look(watched)

    assert [body["status"] for body in got] == ["firing"]


def test_who_never_heard_of_an_alert_does_not_hear_of_its_end(watched: Watched, webhook):
    url, got, answer = webhook
    answer["status"] = 500
    watched.set(f"  on_alert: ['{url}']")
    watched.part(Log.of(300, seed=1, pixels=2))
    look(watched)
    watched.part(Log.of(600, seed=2).later(1), hour="11")
    look(watched)
    end_an_hour_ago(watched)

    look(watched)

    assert [body["status"] for body in got] == ["firing"]


@pytest.mark.parametrize("asked", [api.Asked(window=10), api.Asked(since="2026-01-02T23:00Z")])
def test_a_look_at_too_few_predictions_ends_no_alert(watched: Watched, asked: api.Asked):
    watched.part(Log.of(300, seed=1, pixels=2))
    first = look(watched)

    last(api.check(api.Where(watched.config), asked))

    assert list(state(watched).alerts) == ["my_project/1"]
    assert look(watched).alert_file == first.alert_file


def test_what_alarms_in_turns_is_told_once_each(watched: Watched):
    watched.part(Log.of(600, seed=1, pixels=2))
    look(watched)
    known = state(watched)
    (only,) = known.alerts.values()
    other = msgspec.structs.replace(only, columns=["p99_ms"])
    write(watched.layout.alerts / ONGOING, Ongoing(alerts={"my_project/1": other}))

    news, no_news = look(watched), look(watched)

    (now,) = state(watched).alerts.values()
    assert news.alert_file == no_news.alert_file
    assert set(now.columns) == {*only.columns, "p99_ms"}
    assert "p99_ms" not in written(watched)[-1].columns


def test_who_could_not_be_told_is_told_by_the_next_check(watched: Watched):
    watched.set("  on_alert: ['exec:echo x >> well', 'exec:test -f up && echo x >> told']")
    watched.part(Log.of(300, seed=1, pixels=2))

    down = look(watched)
    (watched.root / "up").touch()
    up, after = look(watched), look(watched)

    assert [len(one.warnings) for one in (down, up, after)] == [1, 0, 0]
    assert "the next check tries again" in down.warnings[0]
    assert (watched.root / "told").read_text() == "x\n"
    assert (watched.root / "well").read_text() == "x\n"


def test_two_checks_at_once_open_and_tell_one_alert(watched: Watched):
    watched.set("  on_alert: ['exec:echo x >> told; sleep 1']")
    watched.part(Log.of(300, seed=1, pixels=2))

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(look, [watched, watched])

    assert first.alert_file == second.alert_file
    assert (watched.root / "told").read_text() == "x\n"


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


def test_a_command_that_fails_is_named_with_its_last_words(tmp_path: Path):
    first = alerts.told("exec:yes | head -100000; echo out of order; exit 3", ALERT, tmp_path)
    second = alerts.told("exec:no-such-command-here", ALERT, tmp_path)

    assert first.endswith("ended with 3: out of order")
    assert "ended with 127" in second


def test_a_command_that_hangs_is_ended_with_all_its_children(tmp_path: Path):
    said = alerts.told("exec:(sleep 60; touch survived) | cat", ALERT, tmp_path, timeout_s=0.3)

    assert "was ended after 0.3 s" in said


@pytest.mark.parametrize("command", ["sleep 5 & true", "setsid sleep 5 & true"])
def test_what_a_command_leaves_in_the_background_is_not_waited_for(tmp_path: Path, command: str):
    assert alerts.told(f"exec:{command}", ALERT, tmp_path, timeout_s=3) == ""


def test_a_webhook_gets_what_alertmanager_would_send(webhook, tmp_path: Path):
    url, got, _ = webhook

    problem = alerts.told(url, ALERT, tmp_path)

    (body,) = got
    assert problem == ""
    assert (body["version"], body["status"]) == ("4", "firing")
    assert body["alerts"][0]["labels"]["columns"] == "center_x"
    assert body["alerts"][0]["startsAt"] == "2026-01-02T09:00:00Z"
    assert body["commonAnnotations"]["summary"] == "m version 1: something"


def test_a_webhook_may_be_named_by_a_variable(webhook, tmp_path: Path, monkeypatch):
    url, got, _ = webhook
    monkeypatch.setenv("ALERTS", f"{url}s3cret\n")
    monkeypatch.delenv("NOBODY", raising=False)

    told = alerts.told("env:ALERTS", ALERT, tmp_path)
    unset = alerts.told("env:NOBODY", ALERT, tmp_path)

    assert (told, len(got)) == ("", 1)
    assert unset.startswith("the variable NOBODY of `monitor.on_alert` holds no webhook")
    assert Monitor(on_alert=["env:ALERTS"]).on_alert == ["env:ALERTS"]


def test_a_webhook_that_refuses_or_is_not_there_is_a_warning(webhook, tmp_path: Path):
    url, _, answer = webhook
    answer["status"] = 500

    refused, absent, malformed = (
        alerts.told(one, ALERT, tmp_path) for one in (url, "http://127.0.0.1:1/", "http://[")
    )

    assert refused.endswith("answered 500")
    assert "was not reached" in absent
    assert "was not reached" in malformed


def test_the_secret_part_of_a_webhook_is_never_said(webhook, tmp_path: Path):
    url, _, answer = webhook
    answer["status"] = 404

    refused = alerts.told(f"{url}services/T0/B0/s3cret?key=s3cret", ALERT, tmp_path)
    absent = alerts.told("http://me:s3cret@127.0.0.1:1/s3cret", ALERT, tmp_path)

    assert "127.0.0.1" in refused
    assert "s3cret" not in refused + absent


def test_a_webhook_whose_answer_never_ends_is_not_waited_for(webhook, tmp_path: Path):
    url, _, answer = webhook
    answer["drips"] = True

    began = time.monotonic()
    said = alerts.told(url, ALERT, tmp_path)

    assert said == ""
    assert time.monotonic() - began < DRIPS_S / 2
