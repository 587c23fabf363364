"""`monitor.days` and `monitor.gradual`: whole days of the log, and drift that lasts."""

import json
import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from monitor_log import MODEL, Log, Watched, add_package, last
from typer.testing import CliRunner

from mlstack.cli import assemble
from mlstack.monitor import api, days, gradual, target, windows
from mlstack.monitor.drift import MISSING
from mlstack.records import requests
from mlstack.records.base import read, write
from mlstack.records.day import Day
from mlstack.records.reference import CategoryColumn, Reference

FIRST = date(2026, 1, 2)
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
BRIGHTNESS = requests.FEATURE + "brightness"


def day_of(number: int) -> str:
    return str(FIRST + timedelta(days=number))


def add_day(
    watched: Watched, number: int, *, factor: float = 1.0, rows: int = 300, version: int = 1
) -> Path:
    """Log one day; brightness differs a little from day to day, and by `factor`."""
    log = Log.of(rows, seed=1000 + number, version=version).later(24 * number)
    wobble = 1 + 0.005 * np.random.default_rng(number).normal()
    log.columns[BRIGHTNESS] = [value * wobble * factor for value in log.columns[BRIGHTNESS]]
    return watched.part(log, date=day_of(number))


def known(watched: Watched, now: datetime = NOW) -> list[Day]:
    project = api.load(watched.config)
    counting = days.known(watched.layout, target.find(project, None), now)
    while True:
        try:
            next(counting)
        except StopIteration as end:
            return end.value


def check(watched: Watched) -> api.Report:
    return last(api.check(api.Where(watched.config), api.Asked()))


def kept_file(watched: Watched, number: int) -> Path:
    return watched.layout.days(MODEL, 1) / f"{day_of(number)}.json"


def test_a_day_is_counted_over_the_bins_of_the_reference(watched: Watched):
    add_day(watched, 0, rows=120)
    reference = target.find(api.load(watched.config), None).reference

    (day,) = known(watched)

    assert (day.date, day.rows) == ("2026-01-02", 120)
    assert {sum(day.counts[one.name]) for one in reference.numeric} == {120}
    assert sum(day.counts["prediction"]) == 120
    assert len(day.counts["prediction"]) == 11  # ten classes, and any other
    assert day.counts["contrast" + MISSING] == [120, 0]
    assert read(kept_file(watched, 0), Day) == day


def test_today_is_not_over(watched: Watched):
    add_day(watched, 0)
    add_day(watched, 1)

    found = known(watched, datetime(2026, 1, 3, 23, 59, tzinfo=UTC))

    assert [day.date for day in found] == ["2026-01-02"]


def test_a_day_is_read_again_only_when_its_parts_changed(watched: Watched, monkeypatch):
    add_day(watched, 0)
    add_day(watched, 1)
    known(watched)
    read_days = []
    whole = windows.day
    monkeypatch.setattr(windows, "day", lambda *a: read_days.append(a[0]) or whole(*a))
    watched.part(Log.of(50, seed=5).later(25), "part-2-1.parquet", "11", day_of(1))

    first, second = known(watched)

    assert [day_of(1) in str(parts[0]) for parts in read_days] == [True]
    assert (first.rows, second.rows) == (300, 350)


def test_what_was_counted_outlives_the_log(watched: Watched):
    add_day(watched, 0)
    add_day(watched, 1)
    before = known(watched)

    shutil.rmtree(watched.layout.requests / f"model={MODEL}" / f"date={day_of(0)}")

    assert known(watched) == before


def test_a_day_of_which_parts_are_being_deleted_stays_as_it_was(watched: Watched):
    part = add_day(watched, 0)
    watched.part(Log.of(50, seed=5).later(1), "part-2-1.parquet", "11")
    before = known(watched)

    part.unlink()

    assert known(watched) == before


def test_a_day_with_a_damaged_part_is_left_out_and_comes_back(watched: Watched):
    add_day(watched, 0)
    content = add_day(watched, 1).read_bytes()
    part = add_day(watched, 1)
    part.write_bytes(content[:-50])

    assert [day.date for day in known(watched)] == [day_of(0)]

    part.write_bytes(content)
    assert [day.date for day in known(watched)] == [day_of(0), day_of(1)]


@pytest.mark.parametrize("content", [b"", b"{}", b'{"kind":"monitor.day","v":1,"date":"2026'])
def test_a_damaged_count_is_made_again(watched: Watched, content: bytes):
    add_day(watched, 0)
    before = known(watched)
    kept_file(watched, 0).write_bytes(content)

    assert known(watched) == before
    assert read(kept_file(watched, 0), Day) == before[0]


def test_days_that_cannot_be_kept_are_judged_all_the_same(watched: Watched):
    add_day(watched, 0)
    watched.layout.days(MODEL, 1).parent.parent.mkdir(parents=True)
    watched.layout.days(MODEL, 1).parent.write_text("a file where a folder should be")

    assert [day.rows for day in known(watched)] == [300]


def test_a_package_of_the_same_number_has_days_of_its_own(watched: Watched):
    add_day(watched, 0)
    add_day(watched, 1)
    (before, _) = known(watched)
    shutil.rmtree(watched.layout.package(MODEL, 1))
    shutil.rmtree(watched.layout.requests / f"model={MODEL}" / f"date={day_of(0)}")
    side = add_package(watched.root)
    reference = read(side / "reference.json", Reference)
    numeric = [
        msgspec.structs.replace(one, edges=[e + 1 for e in one.edges]) for one in reference.numeric
    ]
    write(side / "reference.json", msgspec.structs.replace(reference, numeric=numeric))

    (day,) = known(watched)

    assert day.date == day_of(1)
    assert day.reference != before.reference
    assert day.counts["brightness"][0] == 300


def test_another_version_is_no_part_of_a_day(watched: Watched):
    add_day(watched, 0)
    watched.part(Log.of(70, seed=9, version=2), "part-2-1.parquet", "11")

    assert [day.rows for day in known(watched)] == [300]


def test_a_week_without_this_version_ends_the_search(watched: Watched):
    for number in range(12):
        add_day(watched, number, rows=20, version=1 if number in (2, 11) else 2)

    found = known(watched)

    assert [day.date for day in found if day.rows] == [day_of(11)]
    assert len(found) == 1 + days.QUIET


@pytest.mark.parametrize(("limit", "value"), [("DAY_ROWS", 500), ("DAY_CELLS", 500 * 20)])
def test_a_long_day_is_thinned_evenly(watched: Watched, monkeypatch, limit: str, value: int):
    monkeypatch.setattr(windows, limit, value)
    add_day(watched, 0, rows=2000)

    (day,) = known(watched)

    assert 400 < day.rows < 600


def test_a_log_without_drift_is_calm_and_says_what_it_waits_for(watched: Watched):
    for number in range(8):
        add_day(watched, number)
    few = check(watched).gradual
    add_day(watched, 8)

    enough = check(watched).gradual

    assert (few.days, few.calm, few.courses) == (8, 0, [])
    assert "8 of 9 whole days logged" in gradual.said(few)
    assert (enough.days, enough.calm, enough.alert) == (9, 8, False)
    assert {one.alert for one in enough.courses} == {False}


def test_a_day_of_few_predictions_does_not_count(watched: Watched):
    for number in range(9):
        add_day(watched, number, rows=300 if number < 7 else 49)

    assert check(watched).gradual.days == 7


@pytest.fixture
def drifting(watched: Watched) -> Watched:
    """30 calm days, then 10 on which everything is 4 % brighter: too little for one look."""
    for number in range(40):
        add_day(watched, number, factor=1.04 if number >= 30 else 1.0)
    return watched


def test_a_small_drift_that_lasts_is_an_alarm_that_one_look_does_not_see(drifting: Watched):
    report = check(drifting)

    alarming = {one.subject for one in report.findings if one.alert}
    assert alarming == {"brightness over days"}
    assert report.gradual.courses[0].column == "brightness"
    assert report.gradual.courses[0].since in {day_of(number) for number in range(29, 33)}
    assert "input `brightness` drifts for days" in report.summary
    assert f"since {report.gradual.courses[0].since}" in report.summary
    assert report.exit_code() == 5


def test_what_the_last_predictions_show_too_began_when_the_days_say(watched: Watched):
    for number in range(40):
        add_day(watched, number, factor=1.15 if number >= 32 else 1.0)

    report = check(watched)

    alarming = {one.subject for one in report.findings if one.alert}
    assert alarming == {"brightness", "brightness over days"}
    assert report.gradual.courses[0].since == day_of(32)
    assert report.summary.count("brightness") == 1
    assert f"since {day_of(32)}T00:00:00Z" in report.summary


def test_an_alarm_over_days_is_one_alert_and_ends_when_the_days_are_as_before(drifting: Watched):
    first, again = check(drifting), check(drifting)
    for number in range(40, 60):
        add_day(drifting, number)

    calm = check(drifting)

    assert first.alert_file == again.alert_file
    assert "brightness over days" in (drifting.root / first.alert_file).read_text()
    assert not calm.alert
    assert '"alerts": {}' in (drifting.layout.alerts / ".ongoing.json").read_text()


def test_days_are_not_looked_at_where_the_config_says_so(drifting: Watched):
    drifting.set("  drift: {gradual: 1}")

    report = check(drifting)

    assert report.gradual is None
    assert not report.alert
    assert not drifting.layout.days(MODEL, 1).exists()


def test_days_before_a_change_that_is_as_it_should_be_are_not_looked_at(drifting: Watched):
    drifting.set(f"  drift: {{since: {day_of(30)}}}")

    found = check(drifting).gradual

    assert (found.days, found.alert) == (10, False)


def test_a_column_that_is_redacted_is_not_looked_at(drifting: Watched):
    drifting.set("serve: {log: {redact: [brightness]}}")

    found = check(drifting).gradual

    assert "brightness" not in {one.column for one in found.courses}
    assert not found.alert


def test_a_column_that_begins_to_be_missing_is_found(watched: Watched):
    for number in range(24):
        path = add_day(watched, number)
        if number >= 18:
            table = pa.parquet.read_table(path)
            holes = [None if row % 10 == 0 else v for row, v in enumerate(table["f_contrast"])]
            holes = [None if one is None else one.as_py() for one in holes]
            place = table.schema.get_field_index("f_contrast")
            made = table.set_column(place, table.schema.field(place), pa.array(holes, pa.float32()))
            pa.parquet.write_table(made, path)

    found = {one.column: one.alert for one in check(watched).gradual.courses}

    assert found["contrast" + MISSING]
    assert not found["contrast"]


def test_days_counted_over_other_bins_are_left_out(watched: Watched):
    for number in range(12):
        add_day(watched, number)
    first = known(watched)[0]
    odd = {**first.counts, "brightness": [*first.counts["brightness"], 0]}
    write(kept_file(watched, 0), msgspec.structs.replace(first, counts=odd))

    assert check(watched).gradual.days == 11


def test_the_report_draws_the_days(drifting: Watched, tmp_path: Path):
    page = tmp_path / "page.html"

    last(api.report(api.Where(drifting.config), api.Asked(), page))

    text = page.read_text()
    assert "<h2>Days</h2>" in text
    assert "2 January" in text
    assert text.count('class="fill alert" cx=') >= 8
    assert "judged by how much your own days differ" in text


@pytest.mark.parametrize("words", [["check", "--json"], ["--json"]])
def test_the_days_are_in_the_json(drifting: Watched, words: list[str]):
    done = CliRunner().invoke(
        assemble(), ["monitor", *words, "--config", str(drifting.config)], catch_exceptions=False
    )

    said = json.loads(done.stdout)
    assert said["gradual"]["alert"] is True
    assert said["gradual"]["courses"][0]["column"] == "brightness"


def test_the_verdict_for_people_says_how_the_days_are_judged(drifting: Watched):
    done = CliRunner().invoke(
        assemble(), ["monitor", "check", "--config", str(drifting.config)], catch_exceptions=False
    )

    assert done.exit_code == 5
    assert "days     slow drift over 40 days, against the first 20; evidence" in done.stdout


def test_counting_days_says_how_far_it_is_and_once_only(watched: Watched):
    for number in range(4):
        add_day(watched, number)
    where = api.Where(watched.config)

    first = list(api.status(where))
    again = list(api.status(where))

    assert [(one.done, one.total) for one in first[:-1]] == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert first[0].text == f"counting {day_of(3)}"
    assert again == [first[-1]]


def test_a_column_of_text_whose_values_shift_a_little_is_found(watched: Watched):
    place = watched.layout.package(MODEL, 1) / "mlstack" / "reference.json"
    reference = read(place, Reference)
    colour = CategoryColumn(name="contrast", counts={"red": 500, "green": 300, "blue": 200})
    numeric = [one for one in reference.numeric if one.name != "contrast"]
    categories = [*reference.categories, colour]
    write(place, msgspec.structs.replace(reference, numeric=numeric, categories=categories))
    for number in range(40):
        log = Log.of(600, seed=1000 + number).later(24 * number)
        shares = [0.5, 0.3, 0.2] if number < 30 else [0.4, 0.4, 0.2]
        codes = np.random.default_rng(number).choice(3, 600, p=shares).astype(float)
        codes[:6] = np.nan  # a value that the reference does not know
        log.columns[requests.FEATURE + "contrast"] = codes.tolist()
        watched.part(log, date=day_of(number))

    found = {one.column: one for one in check(watched).gradual.courses}

    assert found["contrast"].statistic == "TV"
    assert found["contrast"].alert
    assert [one.column for one in found.values() if one.alert] == ["contrast"]
    assert found["contrast"].since in {day_of(number) for number in range(29, 33)}


def test_the_state_of_alerts_of_an_older_mlstack_is_read(watched: Watched):
    alert = (
        '{"kind":"monitor.alert","v":1,"id":"20260101-000000-abcd","model":"my_project",'
        '"version":1,"created":"2026-01-01T00:00:00Z","since":"","summary":"","columns":[],'
        '"prediction_ids":[],"report":null}'
    )
    ended = f'{{"kind":"monitor.ended","v":1,"alert":{alert},"at":"2026-01-01T01:00:00Z"}}'
    watched.layout.alerts.mkdir(parents=True)
    (watched.layout.alerts / ".ongoing.json").write_text(
        f'{{"kind":"monitor.ongoing","v":1,"alerts":{{}},"ended":{{"my_project/1":{ended}}},'
        '"untold":{}}'
    )
    add_day(watched, 0)

    assert not check(watched).alert
