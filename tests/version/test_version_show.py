import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlstack.records import requests
from mlstack.records.base import write
from mlstack.records.dataset import DatasetVersion
from mlstack.records.lineage import Lineage, embedded
from mlstack.records.package import Live
from mlstack.records.prediction_id import moment
from mlstack.records.run import (
    CodeVersion,
    Environment,
    Finished,
    RunSpec,
    Started,
    Stepped,
    append_event,
)

CODE = CodeVersion(commit="c" * 40, dirty=True, diff_file="code.diff")
MACHINE = Environment(python="3.11.7", platform="linux", cpu_count=2, packages={"torch": "2.13.0"})
DATA = DatasetVersion(
    name="digits", source="data/digits", md5="a" * 32 + ".dir", revision="b" * 40, files=301
)


def lay_run(project: Path, run: str, lr: float, parent: str | None = None) -> None:
    folder = project / ".mlstack" / "runs" / run
    spec = RunSpec(
        id=run,
        created="2026-01-02T03:04:05Z",
        root=str(project),
        command=["mlstack", "train"],
        config={"model": {"args": {"lr": lr}}},
        dataset=DATA,
        code=CODE,
        environment=MACHINE,
        seed=17,
        classes=list("0123456789"),
        parent=parent,
    )
    write(folder / "run.json", spec)
    end = Finished(run=run, at=1.0, step=10, epoch=2, metrics={"test/acc": 0.97})
    append_event(folder, end)


@pytest.fixture
def lineage(project: Path) -> Path:
    """Two runs, the second from the first, and a live package of the second."""
    lay_run(project, "20260101-000000-aaaa", 0.1)
    lay_run(project, "20260102-000000-bbbb", 0.2, parent="20260101-000000-aaaa")
    package = project / "models" / "my_project" / "1"
    record = Lineage(
        model="my_project",
        number=1,
        run="20260102-000000-bbbb",
        created="2026-01-02T05:00:00Z",
        dataset=DATA,
        code=CODE,
        environment=MACHINE,
        config={"model": {"args": {"lr": 0.2}}},
        seed=17,
        checkpoint_sha256="d" * 64,
        parent="20260101-000000-aaaa",
    )
    write(package / "mlstack" / "lineage.json", record)
    (package / "model.onnx").write_bytes(b"onnx")
    write(package.parent / "live.json", Live(live=1, changed="2026-01-03T00:00:00Z"))
    return project


@pytest.mark.parametrize(
    "wanted",
    [
        "my_project/1",
        "my_project/1/",
        "my_project",
        "my_project/",
        "1",
        "models/my_project",
        "models/my_project/",
        "models/my_project/1",
        "models/my_project/1/",
        "models/my_project/1/model.onnx",
    ],
)
def test_a_package_leads_to_data_code_config_seed_and_libraries(lineage, answer, wanted) -> None:
    said = answer("show", wanted)

    assert (said["model"], said["number"], said["run"]) == ("my_project", 1, "20260102-000000-bbbb")
    assert said["dataset"]["md5"] == DATA.md5
    assert said["dataset"]["revision"] == DATA.revision
    assert said["code"]["commit"] == CODE.commit
    assert said["code"]["dirty"]
    assert said["seed"] == 17
    assert said["environment"]["packages"] == {"torch": "2.13.0"}
    assert said["settings"] == [
        {"kind": "version.setting", "v": 1, "key": "model.args.lr", "before": 0.1, "after": 0.2}
    ]
    assert said["parents"] == ["20260101-000000-aaaa"]
    assert said["live"] == ["live since 2026-01-03T00:00:00Z"]


@pytest.mark.parametrize(
    "wanted", ["20260102-000000-bbbb", "bbbb", ".mlstack/runs/20260102-000000-bbbb"]
)
def test_a_run_leads_to_its_origin_and_its_packages(lineage, answer, version, wanted) -> None:
    said = answer("show", wanted)

    assert said["run"] == "20260102-000000-bbbb"
    assert said["packages"] == ["my_project/1"]
    assert said["metrics"] == {"test/acc": 0.97}
    text = version("show", wanted).stdout
    assert "lr: 0.1 -> 0.2" in text
    assert "torch 2.13.0" in text


def test_a_damaged_package_of_another_run_is_no_hindrance(lineage, answer, version) -> None:
    broken = lineage / "models" / "my_project" / "2" / "mlstack" / "lineage.json"
    broken.parent.mkdir(parents=True)
    broken.write_text('{"v": 1, "run":')

    assert answer("show", "20260102-000000-bbbb")["packages"] == ["my_project/1"]
    asked = version("show", "my_project/2")
    assert asked.returncode == 3
    assert "lineage.json` is not a whole" in asked.stderr


def test_an_unknown_or_ambiguous_name_is_said(lineage, version) -> None:
    unknown, several = version("show", "zzzz"), version("show", "2026")

    assert (unknown.returncode, several.returncode) == (3, 3)
    assert "no package is called `zzzz`, and no run fits `zzzz`" in unknown.stderr
    assert "2 runs fit" in several.stderr


def test_a_run_on_unsnapshotted_data_cannot_be_reproduced(lineage, version) -> None:
    path = lineage / ".mlstack" / "runs" / "20260102-000000-bbbb" / "run.json"
    spec = json.loads(path.read_text())
    spec["dataset"]["dirty"] = True
    path.write_text(json.dumps(spec))

    done = version("reproduce", "bbbb")

    assert done.returncode == 3
    assert "in no snapshot" in done.stderr


def test_reproduce_says_when_the_commit_is_not_here(lineage, version) -> None:
    done = version("reproduce", "bbbb")

    assert done.returncode == 3
    assert "is not here" in done.stderr
    assert not (lineage / ".mlstack" / "reproduce" / "20260102-000000-bbbb").exists()


FAST = ("show", "my_project/1"), ("show", "bbbb"), ("show", "my_project", "--json")


@pytest.mark.parametrize("words", FAST, ids=" ".join)
def test_show_answers_at_once_what_the_usual_way_answers(lineage, version, words) -> None:
    usual = version(*words, "--set", "train.epochs=3")  # options are for the usual way

    at_once = version(*words)

    assert at_once.returncode == usual.returncode == 0
    assert at_once.stdout == usual.stdout


PROBE = """
import sys
from mlstack.__main__ import main
sys.argv = ["mlstack", "version", "show", {!r}]
try:
    main()
finally:
    print("LOADED", *sorted(m for m in sys.modules if "." not in m))
"""


def loaded_for(project: Path, wanted: str) -> set[str]:
    command = [sys.executable, "-c", PROBE.format(wanted)]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert "my_project/1" in done.stdout, done.stderr
    return set(done.stdout.rpartition("LOADED")[2].split())


HEAVY = {"typer", "pydantic", "pyarrow", "numpy", "dvc", "duckdb", "rich", "ruamel"}


def test_show_loads_nothing_heavy(lineage) -> None:
    assert not loaded_for(lineage, "my_project/1") & {*HEAVY, "_duckdb"}


def test_a_prediction_is_found_without_loading_pyarrow(served) -> None:
    assert not loaded_for(served, identify(9, 14, 3)) & HEAVY
    assert not loaded_for(served, identify(11, 0)) & HEAVY


def embed(path: Path, facts: dict[str, str]) -> Path:
    """Write a file that holds nothing but metadata, as protobuf."""

    def field(number: int, content: bytes) -> bytes:
        size = len(content)
        return bytes([number << 3 | 2, size & 0x7F | 0x80, size >> 7]) + content

    entries = [field(1, k.encode()) + field(2, v.encode()) for k, v in facts.items()]
    path.write_bytes(b"".join(field(14, entry) for entry in entries))
    return path


def test_a_bare_graph_far_from_any_project_says_where_it_comes_from(tmp_path, in_folder) -> None:
    spec = RunSpec(
        id="20260102-000000-bbbb",
        created="2026-01-02T03:04:05Z",
        root="/somewhere",
        command=[],
        config={"model": {"args": {"lr": 0.2}}},
        dataset=DATA,
        code=CODE,
        environment=MACHINE,
        seed=17,
        classes=[],
    )
    record = embedded(spec, "my_project", "d" * 64)
    facts = {"mlstack.lineage": msgspec.json.encode(record).decode(), "mlstack.run": spec.id}
    graph = embed(tmp_path / "bare.onnx", facts)

    done = in_folder(tmp_path)("version", "show", str(graph), "--json")

    said = json.loads(done.stdout)
    assert (said["model"], said["number"], said["run"]) == ("my_project", None, spec.id)
    assert said["dataset"]["md5"] == DATA.md5
    assert said["code"]["commit"] == CODE.commit
    assert (said["seed"], said["config"]) == (17, spec.config)


def test_a_graph_of_another_tool_and_a_damaged_one_are_said(tmp_path, in_folder) -> None:
    foreign = embed(tmp_path / "foreign.onnx", {"author": "somebody"})
    (tmp_path / "cut.onnx").write_bytes(foreign.read_bytes()[:-3])
    mlstack = in_folder(tmp_path)

    other, cut = (mlstack("version", "show", name) for name in ("foreign.onnx", "cut.onnx"))

    assert (other.returncode, cut.returncode) == (3, 3)
    assert "does not say where it comes from" in other.stderr
    assert "not a whole ONNX file" in cut.stderr


def log_row(identity: str, **more: object) -> dict[str, object]:
    row = {name: None for name in requests.BASE_COLUMNS}
    at = int(moment(identity).timestamp() * 1e6) + 700
    usual = {"model": "my_project", "version": 1, "route": "predict", "status": 200, "ts_us": at}
    return row | usual | {"prediction_id": identity, "latency_us": 700, "batch": 1} | more


def identify(hour: int, minute: int, row: int = 0) -> str:
    at = datetime(2026, 3, 4, hour, minute, 30, tzinfo=UTC)
    stamp = f"{int(at.timestamp() * 1000):012x}"
    return f"{stamp[:8]}-{stamp[8:]}-7{row:03x}-8000-000000000000"


def write_log(project: Path, parts: dict[str, list[dict[str, object]]]) -> None:
    log = project / ".mlstack" / "requests"
    for name, rows in parts.items():
        path = log / name
        path.parent.mkdir(parents=True, exist_ok=True)
        table = pa.Table.from_pylist(rows, schema=requests.schema([]))
        if path.suffix == ".parquet":
            pq.write_table(table, path, compression="zstd")
        else:
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as out:
                out.write_table(table)


@pytest.fixture
def served(lineage: Path) -> Path:
    """The live package with a log: 20 parts of an hour, one of the next, and rows not packed."""
    hour = "model=my_project/date=2026-03-04/hour="

    def started(prediction: str) -> int:
        return int(moment(prediction).timestamp() * 1e6) - 1_000_000

    parts = {
        f"{hour}09/part-{started(identify(9, 2 * n))}-77.parquet": [
            log_row(identify(9, 2 * n, row), prediction=str(n), confidence=0.5) for row in range(50)
        ]
        for n in range(20)
    }
    late = identify(9, 59)
    parts[f"{hour}10/part-{started(late)}-77.parquet"] = [log_row(late, prediction="late")]
    two = identify(11, 0)
    parts[f"wal/my_project-77-{started(two)}.arrows"] = [
        log_row(f"{two}-{row}", prediction=f"row {row}") for row in range(12)
    ]
    write_log(lineage, parts)
    feedback = lineage / ".mlstack" / "feedback"
    feedback.mkdir()
    for number, label in enumerate(("wrong", "right"), start=1):
        row = {"prediction_id": identify(9, 14, 3), "label": label, "ts_us": number}
        table = pa.Table.from_pylist([row], schema=requests.FEEDBACK_SCHEMA)
        pq.write_table(table, feedback / f"part-{number}-77.parquet", compression="zstd")
    return lineage


def test_a_served_prediction_leads_to_its_package_and_label(served, answer, version) -> None:
    said = answer("show", identify(9, 14, 3))

    found = said["prediction"]
    assert (found["prediction"], found["confidence"], found["label"]) == ("7", 0.5, "right")
    assert (found["model"], found["version"], found["status"]) == ("my_project", 1, 200)
    assert said["run"] == "20260102-000000-bbbb"
    assert said["dataset"]["md5"] == DATA.md5
    assert "labeled right later" in version("show", identify(9, 14, 3)).stdout


def test_a_part_that_another_tool_wrote_is_read_too(served, answer, version) -> None:
    parts = (served / ".mlstack" / "requests").glob("model=*/date=*/hour=09/*.parquet")
    for part in sorted(parts):
        pq.write_table(pq.ParquetFile(part).read(), part, compression="snappy")

    said = answer("show", identify(9, 14, 3))
    part.write_bytes(b"PAR1 damaged PAR1")
    damaged = version("show", identify(9, 38))

    assert said["prediction"]["prediction"] == "7"
    assert damaged.returncode == 3
    assert f"{part.name}` is damaged" in damaged.stderr


def test_an_answer_logged_in_the_next_hour_is_found(served, answer) -> None:
    assert answer("show", identify(9, 59))["prediction"]["prediction"] == "late"


def test_rows_that_are_not_packed_yet_are_found_by_request_and_by_row(served, answer) -> None:
    request = identify(11, 0)

    whole, row = answer("show", request), answer("show", f"{request}-1")

    assert whole["prediction"]["id"] == f"{request}-0"
    assert row["prediction"]["prediction"] == "row 1"


def test_a_prediction_that_is_not_in_the_log_is_said(served, version) -> None:
    done = version("show", identify(9, 1))

    assert done.returncode == 3
    assert "2026-03-04 09:01:30 UTC" in done.stderr
    assert "keep_days" in done.stderr


def test_a_prediction_of_a_package_that_is_gone_names_it(served, version) -> None:
    shutil.rmtree(served / "models" / "my_project" / "1")

    done = version("show", identify(9, 14))

    assert done.returncode == 3
    assert "my_project/1, which is not here" in done.stderr


def test_a_run_says_how_often_it_was_resumed(lineage, answer) -> None:
    folder = lineage / ".mlstack" / "runs" / "20260102-000000-bbbb"
    for attempt in (2, 3):
        append_event(folder, Started(run="b", at=2.0, attempt=attempt))
    for step in range(2000):
        append_event(folder, Stepped(run="b", at=3.0, epoch=3, step=step, batch=1, batches=9))

    said = answer("show", "bbbb")

    assert said["attempts"] == 3
    assert said["metrics"] == {"test/acc": 0.97}
