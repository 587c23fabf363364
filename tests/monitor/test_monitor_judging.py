from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from monitor_log import MODEL, START_US, Log, Watched, confidences, last
from test_monitor_drift import digits_reference, digits_window

from mlstack.config.schema import Service as Limits
from mlstack.monitor import api, quality, service
from mlstack.monitor.windows import Labelled
from mlstack.records import requests
from mlstack.records.report import Service


def served(requests: int, failed: int = 0, p99_ms: float = 5.0) -> Service:
    return Service(
        requests=requests, failed=failed, refused=0, per_minute=60.0, p50_ms=1.0, p99_ms=p99_ms
    )


@pytest.mark.parametrize(
    ("requests", "failed", "alarms"),
    [(500, 0, False), (500, 5, False), (500, 30, True), (100, 1, False), (20, 20, False)],
)
def test_failures_alarm_only_when_they_are_certainly_too_many(requests, failed, alarms):
    (found,) = service.judge(served(requests, failed), Limits(), least=50)

    assert found.alert is alarms
    assert found.effect == failed / requests


def test_latency_alarms_against_its_limit_and_only_if_there_is_one():
    (slow,) = service.judge(served(500, p99_ms=80), Limits(p99_ms=50), least=50)[1:]
    none = service.judge(served(500, p99_ms=80), Limits(), least=50)[1:]

    assert slow.alert
    assert none == []


def test_one_refused_request_is_told_as_one():
    one = Service(requests=9, failed=0, refused=1, per_minute=1.0)

    (found,) = service.judge(one, Limits(), least=5)

    assert found.detail.endswith(", 1 was refused (4xx)")


def test_no_request_at_all_is_no_failure():
    empty = Service(requests=0, failed=0, refused=0, per_minute=0.0)

    (found,) = service.judge(empty, Limits(p99_ms=1), least=1)

    assert not found.alert


def test_the_estimate_falls_as_the_confidence_falls_and_stays_between_0_and_1():
    order = np.random.default_rng(0).permutation(1797)
    reference = digits_reference(order[:898], 0)
    same = digits_window(order[900:1400], 1)
    worse = digits_window(order[900:1400], 1)
    worse.numeric["confidence"][:] = confidences(500, 1, worse=0.9)

    assert quality.estimate(reference, same) == pytest.approx(0.96, abs=0.01)
    assert 0 < quality.estimate(reference, worse) < 0.9
    del worse.numeric["confidence"]
    assert quality.estimate(reference, worse) is None


@pytest.mark.parametrize(
    ("labels", "correct", "alarms"),
    [(200, 195, False), (200, 180, False), (200, 150, True), (10, 0, False)],
)
def test_measured_accuracy_alarms_when_it_is_certainly_too_low(labels, correct, alarms):
    order = np.random.default_rng(0).permutation(1797)
    measured = quality.measure(Labelled(labels, correct, labels), digits_window(order[:500], 1))

    found = quality.judge(measured, 0.96, rows=898, least=50)

    assert found is not None
    assert found.alert is alarms
    assert measured.low <= measured.accuracy <= measured.high


def test_a_small_reference_that_was_lucky_does_not_make_a_healthy_model_alarm():
    dice = np.random.default_rng(0)
    window = digits_window(np.arange(500), 1)
    alarms = 0
    for _ in range(2000):  # 57 reference examples and 500 labels, 94 % of either right
        lucky = dice.binomial(57, 0.94) / 57
        measured = quality.measure(Labelled(500, int(dice.binomial(500, 0.94)), 0), window)
        found = quality.judge(measured, lucky, rows=57, least=50)
        alarms += found is not None and found.alert

    assert alarms == 0


def test_labels_of_the_least_confident_predictions_alone_are_no_drop(watched: Watched):
    log = Log.of(500, seed=1)
    order = np.argsort(log.columns["confidence"])[:80]
    for place in order[:16]:  # of those a fifth is wrong, as the model says itself
        log.columns["prediction"][place] = str((int(log.columns["prediction"][place]) + 1) % 10)
    right = Log.of(500, seed=1).columns["prediction"]
    watched.part(log)
    ids = log.columns["prediction_id"]
    watched.feedback([ids[place] for place in order], [right[place] for place in order])

    chosen = look(watched)
    sure = np.argsort(log.columns["confidence"])[-80:]
    wrong = [str((int(right[place]) + 1) % 10) for place in sure]
    watched.feedback([ids[place] for place in sure], wrong, ts_us=START_US + 1)
    worse = look(watched)

    assert chosen.quality is not None
    assert chosen.quality.accuracy == pytest.approx(0.8)
    assert not chosen.alert
    assert [one.subject for one in worse.findings if one.alert] == ["accuracy"]


def test_no_less_is_expected_of_old_labels_because_the_window_has_become_surer():
    order = np.random.default_rng(0).permutation(1797)
    reference = digits_reference(order[:898], 0)
    surer = digits_window(order[900:1400], 1)
    usual = float(np.mean(surer.numeric["confidence"]))
    surer.numeric["confidence"][:] = 1.0

    random, chosen = (
        quality.expected(reference, Labelled(100, 90, 0, confidence=mean), surer)
        for mean in (usual, usual - 0.3)
    )

    assert random == pytest.approx(0.96, abs=0.01)
    assert chosen == pytest.approx(0.66, abs=0.01)


def look(watched: Watched, **asked: object):
    return last(api.check(api.Where(watched.config), api.Asked(**asked)))


def test_too_few_predictions_are_said_and_never_alarm(watched: Watched):
    watched.part(Log.of(12, pixels=2))

    report = look(watched)

    assert not report.alert
    assert report.exit_code() == 0
    assert "not enough predictions yet (12 of 50)" in report.summary


def test_a_service_that_only_fails_alarms_without_any_prediction(watched: Watched):
    watched.part(Log.of(200, seed=1).fail(200, status=503))

    report = look(watched)

    assert report.exit_code() == 5
    assert "100.0% of the requests failed" in report.summary
    assert report.rows == 0


def test_wrong_answers_are_found_by_labels_although_nothing_looks_different(watched: Watched):
    log = Log.of(300, seed=1)
    watched.part(log)
    wrong = [str((int(said) + 1) % 10) for said in log.columns["prediction"]]
    watched.feedback(log.columns["prediction_id"][:200], wrong[:200])

    report = look(watched)

    assert [one.subject for one in report.findings if one.alert] == ["accuracy"]
    assert "measured accuracy" in report.summary
    assert report.quality is not None
    assert report.quality.coverage == pytest.approx(2 / 3)


def test_another_version_mixed_in_does_not_change_the_verdict(watched: Watched):
    watched.part(Log.of(300, seed=1))
    watched.part(Log.of(300, seed=2, pixels=2, version=2).later(0.2), name="part-2-2.parquet")

    report = look(watched)

    assert not report.alert
    assert report.rows == 300


def test_only_predictions_since_a_time_are_looked_at(watched: Watched):
    watched.part(Log.of(300, seed=1))
    watched.part(Log.of(100, seed=2, pixels=2).later(1), hour="11")

    late = look(watched, since="2026-01-02T11:00:00+00:00")
    windowed = look(watched, window=60)

    assert (late.rows, windowed.rows) == (100, 60)
    assert late.alert


@pytest.mark.slow
def test_of_very_many_predictions_since_a_time_the_last_million_is_looked_at(watched: Watched):
    rows = api.MOST_ROWS + 1000
    folder = watched.layout.requests / requests.partition(MODEL, "2026-01-02", "10")
    folder.mkdir(parents=True)
    columns = {
        "prediction_id": pa.array(np.arange(rows)).cast(pa.string()),
        "ts_us": START_US + np.arange(rows),
        "model": pa.repeat(MODEL, rows),
        "version": np.ones(rows, np.int32),
        "status": np.full(rows, 200, np.int16),
        "prediction": pa.repeat("7", rows),
        "confidence": np.full(rows, 0.5, np.float32),
    }
    pq.write_table(pa.table(columns), folder / "part-1-1.parquet")

    report = last(api.check(api.Where(watched.config), api.Asked(since="2026-01-01")))

    assert report.rows == api.MOST_ROWS
    assert "only the last 1,000,000 were looked at" in report.warnings[0]
    assert datetime.fromisoformat(report.since).timestamp() * 1e6 >= START_US - 1e6


def test_the_summary_names_the_column_the_class_and_the_time(watched: Watched):
    watched.part(Log.of(300, seed=1))
    watched.wal(Log.of(400, seed=2, pixels=2).later(0.5))

    report = look(watched)

    assert "input `center_x` changed, mean 0.5" in report.summary
    assert "predictions changed, `7` 9.7% -> " in report.summary
    assert "since 2026-01-02T10:30:0" in report.summary
    assert "estimated accuracy 96.0% -> " in report.summary


def test_redacted_columns_are_not_compared_and_the_report_says_so(watched: Watched):
    log = Log.of(300, seed=1)
    log.columns["f_contrast"] = [None] * 300
    watched.part(log)
    alarmed = look(watched)
    watched.set("serve:\n  log: {redact: [contrast]}")

    report = look(watched)

    assert alarmed.alert
    assert not report.alert
    assert "`contrast` is in the reference and not in the request log" in report.warnings[0]
