import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlstack.records import requests
from mlstack.records.base import write
from mlstack.records.labels import SCHEMA
from mlstack.records.package import Live
from mlstack.records.report import ONGOING, Alert, Ongoing
from mlstack.records.server import ServerSpec

ALERT = Alert(
    id="a1",
    model="my_project",
    version=1,
    created="2026-01-04T00:00:00Z",
    since="2026-01-03",
    summary="brightness drifted",
    columns=["f_brightness"],
    prediction_ids=[],
)


def lay_alert(project: Path, alert: Alert) -> None:
    """Leave what a check leaves that found something alarming."""
    folder = project / ".mlstack" / "alerts"
    write(folder / f"{alert.id}.json", alert)
    write(folder / ONGOING, Ongoing(alerts={f"{alert.model}/{alert.version}": alert}))


def lay_live(project: Path, records: Any, **more: Any) -> Path:
    """Leave a snapshotted project whose package 1 is live; give the folder of the model."""
    run = records.lay_run(project, "20260101-000000-aaaa")
    records.finish(run, 0.9)
    records.lay_package(project, 1, run.name)
    model = project / "models" / "my_project"
    write(model / "live.json", Live(live=1, changed="2026-01-03", **more))
    return model


def test_after_an_alert_comes_its_report_then_labels_then_a_new_model(
    project, answer, records
) -> None:
    lay_live(project, records)
    lay_alert(project, ALERT)
    steps = [answer("status")["next"]]
    report = project / ".mlstack" / "reports" / "r1.html"
    report.parent.mkdir()
    report.write_text("<!doctype html>")
    steps.append(answer("status")["next"])
    with closing(sqlite3.connect(project / ".mlstack" / "labels.db")) as database:
        database.executescript(SCHEMA)
        database.execute(
            "INSERT INTO events (at, annotator, path, action, label)"
            " VALUES (?, 'anna', 'images/0001.png', 'label', '1')",
            (time.time(),),
        )
        database.commit()
    steps.append(answer("status")["next"])
    records.lay_package(project, 2, "20260101-000000-aaaa", created="2026-01-05T00:00:00Z")
    steps.append(answer("status")["next"])

    assert steps == [
        "mlstack monitor report",
        "mlstack label",
        "mlstack run",
        "mlstack serve promote 2",
    ]


def lay_requests(project: Path, rows: int) -> None:
    """Leave a part of the request log."""
    hour = project / ".mlstack" / "requests" / "model=my_project" / "date=2026-01-03" / "hour=00"
    hour.mkdir(parents=True)
    pq.write_table(pa.table({"status": [200] * rows}), hour / "part-1.parquet")


def test_an_alert_is_open_until_a_check_closes_it(project, answer, records) -> None:
    lay_live(project, records)
    lay_requests(project, 1)
    lay_alert(project, ALERT)
    opened = answer("status")
    write(project / ".mlstack" / "alerts" / ONGOING, Ongoing())

    closed = answer("status")

    assert opened["next"] == "mlstack monitor report"
    assert closed["next"] == "mlstack monitor check"
    assert closed["lines"][-1] == opened["lines"][-1] | {
        "state": "1, none open",
        "is_well": True,
    }


def test_times_and_alerts_are_told_in_few_words(project, answer, records) -> None:
    model = lay_live(project, records)
    write(model / "live.json", Live(live=1, changed="2026-01-03T12:30:59+00:00"))
    lay_alert(project, msgspec.structs.replace(ALERT, summary="`age` moved; `visits` moved; since"))

    states = {line["part"]: line["state"] for line in answer("status")["lines"]}
    long = (
        "my_project version 1: measured accuracy 86.4% -> 50.7% (45.0% to 56.3%) on 300 labels; x"
    )
    lay_alert(project, msgspec.structs.replace(ALERT, summary=long))
    (cut,) = [line["state"] for line in answer("status")["lines"] if line["part"] == "alerts"]

    assert states["live"].startswith("package 1 since 2026-01-03 12:30 UTC")
    assert states["alerts"] == "1, open: `age` moved, and more"
    assert cut == "1, open: measured accuracy 86.4% -> 50.7% on 300 labels, and more"


@pytest.mark.parametrize(
    ("summary", "told"),
    [
        (
            "input `center_x` changed, mean 0.508 -> 0.699 (KS 0.93, limit 0.2); b",
            ", mean 0.508 -> 0.699, and more",
        ),
        ("input `size (mm)` went missing", "input `size (mm)` went missing"),
        ("input `" + "n " * 40 + "` changed", " ..."),
    ],
)
def test_an_alert_is_cut_where_it_says_least(
    project: Path, answer, records, summary: str, told: str
) -> None:
    lay_live(project, records)
    lay_alert(project, msgspec.structs.replace(ALERT, summary=summary))

    (state,) = [one["state"] for one in answer("status")["lines"] if one["part"] == "alerts"]

    assert state.endswith(told) and len(state) <= 68


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda package: shutil.rmtree(package), "there is no package 1"),
        (lambda package: (package / "mlstack" / "manifest.json").write_text("{"), "manifest"),
        (lambda package: (package / "mlstack" / "lineage.json").unlink(), "lacks 1"),
    ],
)
def test_a_live_package_that_cannot_be_served_is_named(
    project, answer, records, damage, words
) -> None:
    model = lay_live(project, records)
    records.lay_package(project, 2, "20260101-000000-aaaa")
    damage(model / "1")
    without = answer("status")
    write(model / "live.json", Live(live=1, previous=2, changed="2026-01-03"))

    with_one_before = answer("status")

    (line,) = [line for line in without["lines"] if line["part"] == "live"]
    assert words in line["state"]
    assert not line["is_well"]
    assert without["next"] == "mlstack export"
    assert with_one_before["next"] == "mlstack serve rollback"


def test_the_next_command_follows_the_state_of_the_project(project, answer, records) -> None:

    steps = [answer("status")["next"]]
    (project / "data" / "digits" / "images" / "x.png").write_bytes(b"x")
    steps.append(answer("status")["next"])
    answer("version", "snapshot", "-m", "x")
    first = records.lay_run(project, "20260101-000000-aaaa")
    steps.append(answer("status")["next"])
    records.finish(first, 0.9)
    steps.append(answer("status")["next"])
    records.lay_package(project, 1, first.name)
    steps.append(answer("status")["next"])
    write(project / "models" / "my_project" / "live.json", Live(live=1, changed="2026-01-03"))
    steps.append(answer("status")["next"])
    lay_requests(project, 1500)
    steps.append(answer("status")["next"])
    records.lay_package(project, 2, first.name)
    steps.append(answer("status")["next"])
    lay_alert(project, ALERT)
    said = answer("status")

    assert steps == [
        "mlstack train --check",
        'mlstack version snapshot -m "what changed"',
        "mlstack train --resume",  # of a run whose process is gone
        "mlstack export",
        "mlstack serve",  # the package is not live
        "mlstack serve",  # it is, and nobody serves it
        "mlstack monitor check",
        "mlstack serve promote 2",
    ]
    assert said["next"] == "mlstack monitor report"
    assert any("brightness drifted" in line["state"] for line in said["lines"])
    assert any(line["state"].startswith("1,500 logged, last 20") for line in said["lines"])


def test_a_server_that_nobody_has_asked_yet_is_named(project, answer, records) -> None:
    lay_live(project, records)
    state = project / ".mlstack"
    waits = [sys.executable, "-c", "input()", "mlstack serve"]
    process = subprocess.Popen(waits, stdin=subprocess.PIPE)
    spec = ServerSpec(
        root=str(project),
        model="my_project",
        host="127.0.0.1",
        port=8123,
        url="http://127.0.0.1:8123",
        pid=process.pid,
        started="",
    )
    write(state / "serve.json", spec)
    (state / "requests" / "wal").mkdir(parents=True)
    file = state / "requests" / "wal" / f"my_project-{process.pid}-1.arrows"
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, requests.schema([])):
        pass  # a server that was asked nothing

    said = answer("status")
    process.communicate(b"\n")

    assert said["next"] == "mlstack serve predict FILE --url http://127.0.0.1:8123"
    assert {"none yet; http://127.0.0.1:8123 waits"} < {line["state"] for line in said["lines"]}


def test_labels_of_files_that_are_gone_are_no_labeled_files(project, answer) -> None:
    for image in sorted((project / "data" / "digits" / "images").iterdir())[:3]:
        image.unlink()

    said = answer("status")

    (line,) = [one for one in said["lines"] if one["part"] == "labels"]
    assert line["state"].startswith("297 of 297 files, 3 labels of files that are gone")
    assert not line["is_well"]


def test_a_project_with_few_labels_is_to_be_labeled_before_it_is_trained(project, answer) -> None:
    file = project / "data" / "digits" / "labels.parquet"
    table = pq.read_table(file)
    threes = [place for place, name in enumerate(table["label"].to_pylist()) if name == "3"]
    pq.write_table(table.take([n for n in range(len(table)) if n not in threes[2:]]), file)
    answer("version", "snapshot", "-m", "fewer")

    said = answer("status")

    assert said["next"] == "mlstack label"
    assert said["why"] == "class `3` has 2 labels, and training needs 3 of it"


def test_bare_mlstack_is_quick_loads_nothing_heavy_and_fits_the_screen(fresh) -> None:
    code = (
        "import sys; sys.argv = ['mlstack']\n"
        "from mlstack.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: code = end.code\n"
        "heavy = {'dvc', 'torch', 'duckdb', 'onnxruntime'} & set(sys.modules)\n"
        "assert code == 0 and not heavy, (code, heavy)\n"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=fresh, capture_output=True, text=True, check=False
    )

    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    assert len(done.stdout.splitlines()) <= 24
    assert "next: mlstack serve" in done.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1


def test_the_first_stale_stage_is_told_with_its_whole_reason(fresh, answer) -> None:
    (fresh / "data" / "digits" / "images" / "x.png").write_bytes(b"x")
    answer("version", "snapshot", "-m", "one more")

    (stages,) = [line for line in answer("status")["lines"] if line["part"] == "stages"]

    assert stages["state"] == "prepare is stale, and 3 after it: `data/digits` changed"


def test_a_damaged_record_is_named(fresh, mlstack) -> None:
    (fresh / ".mlstack" / "runs" / "20260101-000000-aaaa" / "run.json").write_text("{")

    done = mlstack("status")

    assert done.returncode == 0
    assert "damaged" in done.stdout


def test_after_a_study_its_best_trial_is_exported_then_served(snapshotted, answer, records) -> None:
    names = ["20260101-000000-aaaa", "20260101-000100-bbbb"]
    best = records.lay_run(snapshotted, names[0], study="s1", trial=0)
    records.finish(best, 0.9)

    alone = {line["part"]: line["state"] for line in answer("status")["lines"]}
    records.finish(records.lay_run(snapshotted, names[1], study="s1", trial=1), 0.8)
    first = answer("status")["next"]
    records.lay_package(snapshotted, 1, best.name)
    then = answer("status")["next"]

    assert alone["study"] == "s1: 1 trial, best val/acc 0.9000"
    assert (first, then) == (f"mlstack export {best.name}", "mlstack serve")


def test_an_empty_folder_hides_no_package(project, answer, records) -> None:
    model = lay_live(project, records)
    (model / "9").mkdir()
    (model / "²").mkdir()  # a digit, and no number

    lines = {line["part"]: line["state"] for line in answer("status")["lines"]}

    assert lines["package"].startswith("my_project/1 of run 20260101-000000-aaaa")
