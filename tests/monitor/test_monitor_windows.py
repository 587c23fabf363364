import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from monitor_log import HOUR_US, MODEL, START_US, Log, Watched

from mlstack.errors import ConfigError, DataError
from mlstack.monitor import windows
from mlstack.monitor.windows import Selection
from mlstack.records import requests


def selection(rows: int = 500, *, version: int = 1, since_us: int = 0) -> Selection:
    return Selection(MODEL, version, rows, since_us)


def test_the_last_rows_of_parts_and_write_ahead_files_come_in_the_order_of_time(watched: Watched):
    watched.part(Log.of(300, seed=1), hour="10")
    watched.part(Log.of(300, seed=2).later(1), hour="11")
    watched.wal(Log.of(100, seed=3).later(2), batches=5)

    window = windows.read(watched.layout.requests, selection(250))

    assert window.rows == 250
    assert (np.diff(window.times_us) >= 0).all()
    assert window.ids[0].as_py() == "p2-1-150"
    assert window.ids[-1].as_py() == "p3-1-99"
    assert set(window.numeric) == {
        "confidence",
        *("brightness", "contrast", "sharpness", "center_x", "center_y"),
    }


def test_more_parts_are_read_when_the_newest_hold_another_version(watched: Watched):
    for hour in range(6):
        log = Log.of(100, seed=hour, version=1 if hour < 3 else 2).later(hour)
        watched.part(log, hour=f"{10 + hour}")

    window = windows.read(watched.layout.requests, selection(250))

    assert window.rows == 250
    assert all(name.split("-")[1] == "1" for name in window.ids.to_pylist())


def test_rows_that_are_in_a_part_and_still_in_the_write_ahead_file_count_once(watched: Watched):
    watched.part(Log.of(120, seed=1))
    watched.part(Log.of(120, seed=1), name="part-1-2.parquet")
    watched.wal(Log.of(120, seed=1))

    window = windows.read(watched.layout.requests, selection())

    assert window.rows == 120


def test_a_cut_off_write_ahead_file_gives_the_rows_that_are_whole(watched: Watched):
    path = watched.wal(Log.of(100, seed=1), batches=10)
    path.write_bytes(path.read_bytes()[:-5000])

    window = windows.read(watched.layout.requests, selection())

    assert 0 < window.rows < 100
    assert window.rows % 10 == 0


def test_half_written_parts_are_not_looked_at(watched: Watched):
    whole = watched.part(Log.of(60, seed=1))
    (whole.parent / ".part-2-2.parquet.tmp").write_bytes(whole.read_bytes()[:100])
    (watched.layout.requests / requests.WAL).mkdir()
    (watched.layout.requests / requests.WAL / "m-2-2.arrows").write_bytes(b"")

    assert windows.read(watched.layout.requests, selection()).rows == 60


@pytest.mark.parametrize("content", [b"", b"PAR1 and no more"])
def test_a_damaged_part_is_named(watched: Watched, content: bytes):
    path = watched.part(Log.of(60, seed=1))
    path.write_bytes(content)

    with pytest.raises(DataError, match=path.name):
        windows.read(watched.layout.requests, selection())


def test_a_clock_that_went_back_still_gives_a_window_and_a_rate(watched: Watched):
    columns = Log.of(100, seed=1).columns
    columns["ts_us"] = columns["ts_us"][:50] + [START_US - HOUR_US] * 50
    watched.part(Log(columns))

    window = windows.read(watched.layout.requests, selection())

    assert window.rows == 100
    assert window.service.per_minute > 0
    assert (np.diff(window.times_us) >= 0).all()


def test_an_empty_log_is_a_window_without_rows_and_no_log_an_error(watched: Watched):
    with pytest.raises(DataError, match="no request to the model `my_project`") as raised:
        windows.read(watched.layout.requests, selection())
    watched.wal(Log.of(10, seed=1))
    empty = requests.schema([]).empty_table()
    pq.write_table(empty, watched.part(Log.of(1)))
    (watched.layout.requests / requests.WAL / "m-1-1.arrows").unlink()

    window = windows.read(watched.layout.requests, selection())

    assert "mlstack serve" in raised.value.hint
    assert window.rows == 0
    assert window.service.requests == 0


def test_failed_requests_count_for_the_service_and_not_for_drift(watched: Watched):
    watched.part(Log.of(100, seed=1).fail(10, status=500))
    rejected = Log.of(5, seed=2, version=0).later(1).fail(5, status=400)
    watched.wal(rejected)

    window = windows.read(watched.layout.requests, selection())

    assert window.rows == 90
    assert (window.service.requests, window.service.failed, window.service.refused) == (105, 10, 5)
    assert window.service.p50_ms == pytest.approx(2.4, abs=0.1)


def test_what_a_stopping_server_did_not_answer_is_no_failure(watched: Watched):
    log = Log.of(100, seed=1).fail(10, status=503)
    log.columns["error"][-10:] = [requests.DRAINING] * 10
    watched.part(log)

    service = windows.read(watched.layout.requests, selection()).service

    assert (service.requests, service.failed) == (90, 0)


def test_a_redacted_column_is_left_out_by_either_of_its_names(watched: Watched):
    watched.part(Log.of(60, seed=1))
    window = windows.read(watched.layout.requests, selection())

    left = window.without(["contrast", requests.FEATURE + "brightness"])

    assert set(window.numeric) - set(left.numeric) == {"contrast", "brightness"}


def test_the_questions_of_the_probe_are_no_traffic(watched: Watched):
    log = Log.of(100, seed=1)
    log.columns["request_id"][:30] = [requests.PROBE] * 30
    watched.part(log)

    window = windows.read(watched.layout.requests, selection())
    assert window.rows == 70
    assert window.service.requests == 70


def test_the_rows_of_one_request_are_one_request(watched: Watched):
    log = Log.of(64, seed=1)
    uuid = "0190a0a0-0000-7000-8000-000000000001"
    log.columns["prediction_id"] = [f"{uuid}-{row}" for row in range(64)]
    watched.part(log)

    window = windows.read(watched.layout.requests, selection())

    assert window.rows == 64
    assert window.service.requests == 1


def test_missing_features_are_nan(watched: Watched):
    log = Log.of(60, seed=1)
    log.columns["f_contrast"] = [None] * 20 + [float("nan")] * 20 + [0.5] * 20
    watched.part(log)

    window = windows.read(watched.layout.requests, selection())

    assert np.isnan(window.numeric["contrast"]).sum() == 40


def test_logs_with_other_features_can_be_mixed(watched: Watched):
    watched.part(Log.of(60, seed=1))
    other = Log.of(60, seed=2).later(1)
    table = other.table().drop_columns(["f_contrast"]).append_column("f_new", pa.array([1.0] * 60))
    pq.write_table(table, watched.part(other, hour="11"))

    window = windows.read(watched.layout.requests, selection())

    assert window.rows == 120
    assert np.isnan(window.numeric["contrast"]).sum() == 60
    assert np.isnan(window.numeric["new"]).sum() == 60


def test_the_last_label_of_a_prediction_counts_wherever_the_prediction_is(watched: Watched):
    log = Log.of(200, seed=1)
    watched.part(log)
    truth = log.columns["prediction"]
    ids = log.columns["prediction_id"]
    watched.feedback(ids[:80], ["none"] * 80, ts_us=1)
    watched.feedback(ids[:60], truth[:60], ts_us=2)
    watched.feedback(["unheard of"], ["0"])
    chosen = selection(150)
    window = windows.read(watched.layout.requests, chosen)

    found = windows.labelled(watched.layout.requests, watched.layout.feedback, chosen, window)

    assert found is not None
    assert (found.labels, found.correct, found.labelled_in_window) == (80, 60, 30)
    assert found.confidence == pytest.approx(np.mean(log.columns["confidence"][:80]), rel=1e-6)


def test_labels_of_predictions_before_the_time_asked_for_do_not_count(watched: Watched):
    early, late = Log.of(60, seed=1), Log.of(60, seed=2).later(2)
    watched.part(early)
    watched.part(late, hour="12")
    watched.feedback(early.columns["prediction_id"], ["none"] * 60)
    watched.feedback(late.columns["prediction_id"][:50], late.columns["prediction"][:50])
    chosen = selection(1000, since_us=START_US + HOUR_US)
    layout = watched.layout

    found = windows.labelled(
        layout.requests, layout.feedback, chosen, windows.read(layout.requests, chosen)
    )

    assert found is not None
    assert (found.labels, found.correct) == (50, 50)


def named_by_time(log: Log) -> Log:
    """Give a log whose ids are those of real requests."""
    stamps = [f"{ts // 1000:012x}" for ts in log.columns["ts_us"]]
    ids = [f"{it[:8]}-{it[8:]}-7000-8000-{n:012x}" for n, it in enumerate(stamps)]
    return Log(log.columns | {"prediction_id": ids})


def test_only_the_hours_of_the_newest_labels_and_of_the_pictures_are_read(watched: Watched):
    logs = [named_by_time(Log.of(60, seed=n).later(3 * n)) for n in range(4)]
    for number, log in enumerate(logs):
        watched.part(log, hour=f"{10 + 3 * number}")
    ids = [name for log in logs for name in log.columns["prediction_id"]]
    watched.feedback(ids, [said for log in logs for said in log.columns["prediction"]])
    layout, chosen = watched.layout, selection(50)
    window = windows.read(layout.requests, chosen)
    oldest = layout.requests / requests.partition(MODEL, "2026-01-02", "10") / "part-1-1.parquet"

    oldest.write_bytes(b"damaged")
    found = windows.labelled(layout.requests, layout.feedback, chosen, window)
    shown = windows.inputs(
        layout.requests, MODEL, dict(zip(ids[-3:], logs[-1].columns["ts_us"][-3:], strict=True))
    )

    assert found is not None
    assert (found.labels, found.correct) == (50, 50)
    assert sorted(shown) == sorted(ids[-3:])
    with pytest.raises(DataError, match="cannot be read"):
        windows.labelled(layout.requests, layout.feedback, selection(500), window)


def test_labels_are_looked_for_further_back_until_there_are_enough(watched: Watched):
    mine, others = named_by_time(Log.of(60, seed=1)), named_by_time(Log.of(400, seed=2).later(3))
    watched.part(mine)
    watched.feedback(mine.columns["prediction_id"], mine.columns["prediction"])
    watched.feedback(others.columns["prediction_id"], others.columns["prediction"])
    layout, chosen = watched.layout, selection(50)

    found = windows.labelled(
        layout.requests, layout.feedback, chosen, windows.read(layout.requests, chosen)
    )

    assert found is not None
    assert found.labels == 50


def test_a_damaged_file_of_labels_is_named(watched: Watched):
    watched.part(Log.of(60))
    watched.feedback(["p0-1-0"], ["1"])
    (damaged,) = watched.layout.feedback.iterdir()
    damaged.write_bytes(damaged.read_bytes()[:50])
    window = windows.read(watched.layout.requests, selection())

    layout = watched.layout

    with pytest.raises(DataError, match=damaged.name):
        windows.labelled(layout.requests, layout.feedback, selection(), window)


def test_no_label_at_all_is_none(watched: Watched):
    watched.part(Log.of(60))
    window = windows.read(watched.layout.requests, selection())

    layout = watched.layout

    assert windows.labelled(layout.requests, layout.feedback, selection(), window) is None


def test_a_query_sees_parts_write_ahead_files_and_feedback_once(watched: Watched):
    watched.part(Log.of(60, seed=1))
    watched.wal(Log.of(60, seed=1))
    watched.wal(Log.of(40, seed=2), name="m-1-2.arrows")
    watched.feedback(["p1-1-0"], ["7"])
    layout = watched.layout

    counted = windows.query(
        layout.requests,
        layout.feedback,
        "SELECT count(*) AS rows, (SELECT count(*) FROM feedback) AS labels, any_value(input) "
        "FROM requests",
    )

    assert counted.columns[:2] == ["rows", "labels"]
    assert counted.rows[0][:2] == [100, 1]
    assert str(counted.rows[0][2]).endswith("bytes>")


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELEC 1", "syntax error"),
        ("SELECT nonsense FROM requests", "nonsense"),
        ("", "one query that only reads"),
        ("SELECT 1; SELECT 2", "one query that only reads"),
        ("DROP VIEW requests", "one query that only reads"),
        ("COPY requests TO 'requests.csv'", "one query that only reads"),
        ("EXPLAIN ANALYZE COPY requests TO 'requests.csv'", "one query that only reads"),
        ("explain (analyze) DROP VIEW requests", "one query that only reads"),
        ("/**/ EXPLAIN ANALYZE DROP VIEW requests", "one query that only reads"),
        ("SELECT * FROM read_text('/etc/hostname')", "disabled by configuration"),
        ("SELECT * FROM read_parquet('https://example.invalid/x.parquet')", "disabled|httpfs"),
    ],
)
def test_a_wrong_or_changing_query_is_refused(watched: Watched, sql: str, said: str):
    watched.part(Log.of(10))

    with pytest.raises(ConfigError, match=said):
        windows.query(watched.layout.requests, watched.layout.feedback, sql)


@pytest.mark.parametrize(
    "sql", ["EXPLAIN FROM requests", "explain analyze SELECT 1", "EXPLAIN (FORMAT json) SELECT 1"]
)
def test_a_query_may_be_explained(watched: Watched, sql: str):
    watched.part(Log.of(10))

    answer = windows.query(watched.layout.requests, watched.layout.feedback, sql)

    assert answer.columns == ["explain_key", "explain_value"]


def test_a_large_query_is_kept_to_its_memory_and_leaves_nothing_on_the_disk(watched: Watched):
    sql = (
        "SELECT list(value ORDER BY name) FROM duckdb_settings() "
        "WHERE name IN ('memory_limit', 'temp_directory')"
    )

    answer = windows.query(watched.layout.requests, watched.layout.feedback, sql)

    limit, spill = str(answer.rows[0][0]).strip("[]").replace("'", "").split(", ")
    assert limit.startswith("572")  # MiB
    assert Path(spill).parent == Path(tempfile.gettempdir())
    assert not Path(spill).exists()


def test_a_query_without_any_log_sees_no_rows(watched: Watched):
    answer = windows.query(
        watched.layout.requests, watched.layout.feedback, "SELECT count(*) FROM requests"
    )

    assert answer.rows == [[0]]


def test_a_long_answer_is_cut_and_says_so(watched: Watched):
    answer = windows.query(
        watched.layout.requests, watched.layout.feedback, "SELECT * FROM range(5000)"
    )

    assert len(answer.rows) == 1000
    assert answer.truncated
