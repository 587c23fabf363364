"""`serve predict` of files with many rows, here and by a server."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tabular
from serving import Server, end, mlstack, start

ROWS: list[dict[str, Any]] = [
    {"age": 31, "zip": "1", "member": True},
    {"age": None, "zip": "2", "member": False},
    {"age": 5, "zip": None, "member": None},
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("shop")
    tabular.make(root)
    (root / "rows.csv").write_text("age;zip;member\n31;1;true\n;2;False\n5,0;;\n")
    pq.write_table(pa.Table.from_pylist(ROWS), root / "rows.parquet")
    (root / "rows.jsonl").write_text("\n\n".join(json.dumps(row) for row in ROWS) + "\n")
    running = start(root)
    yield running
    end(running)


def predicted(server: Server, *arguments: str) -> list[tuple[int, str]]:
    ran = mlstack(server.project, "serve", "predict", *arguments, "--json")
    assert ran.returncode == 0, ran.stderr
    return [(one["row"], one["prediction"]) for one in json.loads(ran.stdout)["predictions"]]


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet", "rows.jsonl"])
def test_each_row_of_a_table_is_predicted_here_and_by_a_server(server: Server, name: str) -> None:
    here = predicted(server, name)
    there = predicted(server, name, "--url", server.url)

    assert here == there
    # A missing postal code says nothing: both classes are as likely, and the first one is named.
    assert here == [(0, "near"), (1, "far"), (2, "near")]


def test_many_rows_go_to_a_server_in_parts_and_keep_their_numbers(
    server: Server, tmp_path: Path
) -> None:
    lines = [f"{n},{1 + n % 2},true" for n in range(2500)]
    (tmp_path / "many.csv").write_text("\n".join(["age,zip,member", *lines]))

    there = predicted(server, str(tmp_path / "many.csv"), "--url", server.url)

    assert there == [(n, "far" if n % 2 else "near") for n in range(2500)]


def test_a_person_is_shown_rows_that_count_from_1(server: Server, tmp_path: Path) -> None:
    lines = [f"{'1e39' if n == 1505 else n},1,true" for n in range(1, 1507)]
    (tmp_path / "many.csv").write_text("\n".join(["age,zip,member", *lines]))

    shown = mlstack(server.project, "serve", "predict", "rows.csv").stdout.splitlines()
    refused = mlstack(
        server.project, "serve", "predict", str(tmp_path / "many.csv"), "--url", server.url
    )

    assert [line[:14] for line in shown[1:4]] == [f"rows.csv row {n}" for n in (1, 2, 3)]
    assert "counted after row 1000, is refused with 400: row 505, column `age`" in refused.stderr


def test_the_row_of_a_file_that_cannot_be_predicted_is_named(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "few.csv").write_text("age,zip,member\n1,1,true\nold,1,true\n")
    (tmp_path / "few.jsonl").write_text('{"age": 1, "zip": "1", "member": true}\n[]\n')

    table = mlstack(server.project, "serve", "predict", str(tmp_path / "few.csv"))
    asked = mlstack(
        server.project, "serve", "predict", str(tmp_path / "few.csv"), "--url", server.url
    )
    lines = mlstack(server.project, "serve", "predict", str(tmp_path / "few.jsonl"))

    assert table.returncode == asked.returncode == lines.returncode == 3
    for ran in (table, asked):
        assert "few.csv: row 2, column `age`: needs a number, got the text `old`" in ran.stderr
    assert "few.jsonl:2: not a row" in lines.stderr


def test_who_asks_for_what_the_model_does_not_take_is_told_where_that_stands(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "other.csv").write_text("age\n1\n")

    asked = mlstack(
        server.project, "serve", "predict", str(tmp_path / "other.csv"), "--url", server.url
    )

    assert asked.returncode == 3
    assert f"hint: {server.url}/openapi.json says what the model takes" in asked.stderr


def test_a_package_with_open_sizes_is_timed_on_its_golden_example(tmp_path: Path) -> None:
    tabular.make(tmp_path, width="width")

    ran = mlstack(tmp_path, "serve", "bench", "--largest", "2", "--json")

    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    assert [timing["rows"] for timing in said["timings"]] == [1, 2]
    assert {load["payload"] for load in said["loads"]} == {"V2 binary", "JSON", "file"}
