import json
import re
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from monitor_log import MODEL, Log, Watched, last, make_reference, png, sheet
from playwright.sync_api import sync_playwright

from mlstack.errors import ConfigError
from mlstack.monitor import api
from mlstack.records import requests
from mlstack.records.base import read, write
from mlstack.records.reference import Reference
from mlstack.records.report import Report, Reported

CHROMIUM = "/usr/bin/chromium"


def made(watched: Watched, out: Path | None = None) -> tuple[Reported, Path, str]:
    report = last(api.report(api.Where(watched.config), api.Asked(), out))
    page = watched.root / report.report_file
    return report, page, page.read_text()


def embedded(page: str) -> dict:
    found = re.search(r'<script type="application/json" id="report">(.*)</script>', page, re.S)
    assert found
    return json.loads(found[1])


def test_the_page_is_one_small_file_with_pictures_and_its_numbers(watched: Watched):
    watched.part(Log.of(500, seed=1, pixels=2))

    report, path, page = made(watched)

    assert path.parent == watched.layout.reports
    assert len(page.encode()) < 300_000
    assert page.count("data:image/png;base64,") == 16
    assert re.findall(r'(?:src|href)="(?!data:)', page) == []
    assert "url(" not in page
    assert embedded(page)["report"]["summary"] == report.summary
    assert len(embedded(page)["columns"]) == 7
    assert read(path.with_suffix(".json"), Report).report_file == report.report_file
    assert report.alert
    assert report.exit_code() == 0
    head, _, _ = page.partition("Columns</h2>")
    assert re.search(r"<li>Since \d\d [A-Z][a-z]+ \d{4}, \d\d:\d\d UTC", head)


def test_the_page_goes_where_it_is_told(watched: Watched, tmp_path: Path):
    watched.part(Log.of(100, seed=1))

    report, _, page = made(watched, tmp_path / "elsewhere" / "r.html")

    assert report.report_file == str(tmp_path / "elsewhere" / "r.html")
    assert "look like the reference" in page


def test_a_page_must_be_called_html(watched: Watched, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"does not end in \.html"):
        made(watched, tmp_path / "r.json")


def test_nothing_that_was_logged_can_become_markup(watched: Watched):
    log = Log.of(200, seed=1)
    nasty = '</script><img src=x onerror="alert(1)">'
    log.columns["prediction"] = [nasty] * 200
    log.columns["prediction_id"] = [f'"><marquee>{row}' for row in range(200)]
    watched.part(log)

    _, _, page = made(watched)

    assert "<img src=x" not in page
    assert "<marquee>" not in page
    assert nasty in json.dumps(embedded(page), ensure_ascii=False).replace('\\"', '"')


def test_inputs_that_are_no_pictures_are_left_out(watched: Watched):
    log = Log.of(200, seed=1)
    raw = bytes(256)  # a tensor of 16 x 16, as the V2 protocol sends it
    log.columns["input"] = [b"{}", None, b"\x89PNG broken", raw] * 50
    watched.part(log)

    _, _, page = made(watched)

    assert 0 < page.count("data:image/png;base64,") < 16


def test_a_window_too_small_to_judge_still_makes_a_page(watched: Watched):
    watched.part(Log.of(3, seed=1))

    report, _, page = made(watched)

    assert "Not enough predictions yet (3 of 50)".lower() in page.lower()
    assert page.count("NOT JUDGED") == 3  # data, model and the whole
    assert "<title>Not judged" in page
    assert not report.alert


def wide(watched: Watched, columns: int) -> None:
    """Give the reference and the log more columns; of the last one most is missing now."""
    place = watched.layout.package(MODEL, 1) / "mlstack" / "reference.json"
    reference = read(place, Reference)
    extra = make_reference({f"x{n}": np.arange(360.0) for n in range(columns)}, np.array(["0"]))
    write(place, msgspec.structs.replace(reference, numeric=reference.numeric + extra.numeric))
    table = Log.of(300, seed=1).table()
    for n in range(columns):
        values = np.where(np.arange(300) % 3 > 0, np.nan, 1.0) if n == columns - 1 else None
        values = np.arange(300.0) * 1.2 if values is None else values
        kept = pa.array(values, pa.float32(), mask=np.isnan(values))
        table = table.append_column(f"{requests.FEATURE}x{n}", kept)
    pq.write_table(table, watched.part(Log.of(1)))


def test_a_column_that_is_mostly_missing_stands_first_with_its_shares(watched: Watched):
    wide(watched, 1)

    _, _, page = made(watched)

    columns = page.partition("Columns</h2>")[2].partition("Predictions</h2>")[0]
    assert columns.index("x0 missing") < columns.index("brightness")
    assert "missing 0.0% → 66.7%" in columns
    assert "0.0% → 66.7%</span>" in columns


def test_of_many_columns_the_rest_is_folded_and_counted(watched: Watched):
    wide(watched, 120)

    _, _, page = made(watched)

    first, _, rest = page.partition('<details class="rest">')
    assert first.count('class="column"') == 8
    assert rest.count('class="column"') == 92
    assert "92 more columns that changed less" in rest
    assert "and 27 more, among all numbers below" in rest


def test_a_confidence_that_alarms_is_named_where_the_model_is_judged(watched: Watched):
    log = Log.of(300, seed=1)
    log.columns["confidence"] = [0.3] * 300
    watched.part(log)

    _, _, page = made(watched)

    assert "<dt>Confidence moved (KS)</dt><dd>1.00 of 0.2</dd>" in page


def test_large_photos_are_made_small(watched: Watched):
    log = Log.of(100, seed=1)
    photo = sheet()[0][0].repeat(100, axis=0).repeat(100, axis=1)
    log.columns["input"] = [png(photo)] * 100
    watched.part(log)

    _, _, page = made(watched)

    assert page.count("data:image/jpeg") == 16
    assert len(page.encode()) < 300_000


@pytest.mark.slow
def test_the_page_fits_a_phone_and_a_desk_in_light_and_dark(watched: Watched):
    watched.part(Log.of(500, seed=1, pixels=2))
    _, path, _ = made(watched)

    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        grounds = set()
        for scheme in ("light", "dark"):
            for width in (1280, 400):
                page = browser.new_page(
                    viewport={"width": width, "height": 900}, color_scheme=scheme
                )
                problems: list[str] = []
                page.on("console", lambda message, seen=problems: seen.append(message.text))
                page.goto(path.as_uri())
                assert page.evaluate("document.documentElement.scrollWidth") == width
                assert page.get_by_text("center_x").first.is_visible()
                assert problems == []
                grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        browser.close()

    assert len(grounds) == 2
