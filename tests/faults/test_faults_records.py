"""A damaged or moved record is named, and stops only what needs it."""

import json
import shutil

import pytest
from faulty import failure, mlstack
from projects import make_project

from mlstack.config import load
from mlstack.launch.moved import spec_here
from mlstack.launch.plan import PlanOptions, plan
from mlstack.records import base, dataset, run
from mlstack.records.layout import Layout


@pytest.fixture
def planned(tmp_path):
    """A project with one finished run (its events are written here) and one that was planned."""
    project = make_project(tmp_path / "demo", images=60)
    config = load(project / "mlstack.yaml")
    first = plan(config, PlanOptions())
    end = run.Finished(run=first.id, at=1.0, step=1, epoch=1, metrics={"val/acc": 0.5})
    run.append_event(Layout(project).run(first.id), end)
    second = plan(config, PlanOptions())
    return project, *sorted([first.id, second.id], key=lambda run_id: run_id != first.id)


def test_a_damaged_run_is_listed_and_stops_neither_status_nor_the_choice_of_another(planned):
    project, first, second = planned
    layout = Layout(project)
    (layout.run(second) / run.SPEC).write_text("{")

    status = mlstack(project, "status", "--json")
    listed = mlstack(project, "train", "ls", "--json")

    assert status.returncode == 0
    states = {row["id"]: row["state"] for row in json.loads(listed.stdout)["runs"]}
    assert states == {first: "finished", second: "damaged"}
    assert run.find_run(layout.runs, None) == first
    assert failure(mlstack(project, "train", "show", second, "--json"))["code"] == 3


def test_garbage_among_the_events_is_named_by_its_line(planned):
    project, first, _ = planned
    with (Layout(project).run(first) / run.EVENTS).open("a") as events:
        events.write("garbage\n")

    error = failure(mlstack(project, "train", "show", first, "--json"))

    assert "events.jsonl:2: not an event" in error["problem"]
    assert error["hint"]


@pytest.mark.parametrize("how", [shutil.move, shutil.copytree])
def test_a_run_follows_its_project_to_another_place(planned, tmp_path, how):
    project, first, _ = planned
    target = tmp_path / "another place é"
    how(project, target)

    spec = spec_here(target, first)

    folder = Layout(target).run(first)
    paths = dataset.read_examples(folder / dataset.EXAMPLES)["path"].to_pylist()
    assert spec.root == str(target)
    assert base.read(folder / run.SPEC, run.RunSpec) == spec
    assert len(paths) == 60
    assert all(path.startswith(f"{target}/data/digits/images/") for path in paths)
    assert spec_here(target, first) == spec


def test_a_damaged_index_of_runs_is_made_anew(planned):
    project, *_ = planned
    Layout(project).runs_db.write_text("garbage, and no database at all")

    done = mlstack(project, "train", "ls", "--json")

    assert len(json.loads(done.stdout)["runs"]) == 2


def test_damaged_labels_are_named_with_the_way_out(planned):
    project, *_ = planned
    Layout(project).labels_db.write_text("garbage, and no database at all")

    errors = [
        failure(mlstack(project, *words, "--json"))
        for words in (("label", "export"), ("label", "stats"), ("status",))
    ]

    assert [error["code"] for error in errors] == [3, 3, 3]
    assert ["mlstack label rebuild" in error["hint"] for error in errors] == [True] * 3


def test_labels_begun_on_a_full_disk_are_no_labels(planned):
    project, *_ = planned
    Layout(project).labels_db.write_bytes(b"")

    done = mlstack(project, "status", "--json")

    assert done.returncode == 0


def test_a_wrong_csv_is_refused_row_by_row_and_nothing_is_imported(planned):
    project, *_ = planned
    table = project / "labels.csv"
    table.write_bytes(
        b"\xef\xbb\xbfpath,label\r\n../x.png,3\r\n/etc/passwd,3\r\nimages/0001.png,11\r\n"
        b"images/0002.png,\r\nimages/0003.png,1\r\nimages/0003.png,2\r\n"
    )

    done = mlstack(project, "label", "import", "labels.csv", "--json")

    problems = [item["problem"] for item in failure(done)["errors"]]
    assert [problem.split(": ")[0] for problem in problems] == [
        f"labels.csv:{line}" for line in (2, 3, 4, 5, 7)
    ]
    stats = mlstack(project, "label", "stats", "--quiet")
    assert stats.stdout.strip() == "60"
    assert done.returncode == 3


def test_a_damaged_part_of_the_request_log_is_named_by_status(planned):
    project, *_ = planned
    hour = project / ".mlstack/requests/model=my_project/date=2026-01-01/hour=04"
    hour.mkdir(parents=True)
    (hour / "part-1.parquet").write_text("garbage")

    done = mlstack(project, "status")

    assert done.returncode == 0
    assert "part-1.parquet` is damaged" in " ".join(done.stdout.split())
