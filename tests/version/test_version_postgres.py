"""Rows of a real Postgres as the dataset of a project."""

import datetime
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from postgres_server import PASSWORD, Postgres, serving

CONFIG = """version: 1
project: {{name: shop, task: tabular}}
data: {{source: "{url}", password: "env:SHOP_PASSWORD", label: bought, {what}}}
model: {{class: "shop.model:Net"}}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with serving() as running:
        yield running


@pytest.fixture
def url(server: Postgres, request: pytest.FixtureRequest) -> str:
    name = f"d{abs(hash(request.node.name)) % 10**12}"
    with server.connect() as connection:
        connection.execute(f"CREATE DATABASE {name}")
    with server.connect(name) as connection:
        connection.execute(
            "CREATE TABLE visits (id int PRIMARY KEY, age float8, city text, price numeric(9, 2), "
            "seen timestamptz, born date, vip bool, ref uuid, bought text)"
        )
        connection.execute(
            "INSERT INTO visits SELECT n, n / 7.0, 'Zürich ' || n % 5, n * 1.25, "
            "'2026-01-01T00:00:00Z'::timestamptz + n * interval '1 hour', date '1980-01-01' + n, "
            "n % 3 = 0, '00000000-0000-0000-0000-000000000001', "
            "CASE WHEN n % 2 = 0 THEN 'yes' ELSE 'no' END FROM generate_series(45000, 1, -1) n"
        )
        connection.execute("INSERT INTO visits (id) VALUES (0)")  # all the rest is missing
    return server.url(name)


@pytest.fixture
def make(tmp_path: Path, url: str):
    def build(what: str = "table: visits") -> Path:
        (tmp_path / "mlstack.yaml").write_text(CONFIG.format(url=url, what=what))
        subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
        return tmp_path

    return build


def pull(project: Path, *words: str, password: str | None = PASSWORD):
    env = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
    env |= {"SHOP_PASSWORD": password} if password is not None else {}
    command = [sys.executable, "-m", "mlstack", "version", "pull", *words]
    return subprocess.run(command, cwd=project, env=env, capture_output=True, text=True)


def answer(done: subprocess.CompletedProcess[str]) -> dict:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_table_becomes_parquet_in_the_order_of_its_key(make):
    done = answer(pull(make(), "--json"))

    table = pq.read_table(make() / "data" / "visits" / "table.parquet")
    assert done["rows"] == 45_001
    assert table["id"].to_pylist() == list(range(45_001))
    assert table.slice(3, 1).to_pylist() == [
        {
            "id": 3,
            "age": pytest.approx(3 / 7),
            "city": "Zürich 3",
            "price": 3.75,
            "seen": datetime.datetime(2026, 1, 1, 3, tzinfo=datetime.UTC),
            "born": datetime.date(1980, 1, 4),
            "vip": True,
            "ref": "00000000-0000-0000-0000-000000000001",
            "bought": "no",
        }
    ]
    assert set(table.slice(0, 1).to_pylist()[0].values()) == {0, None}


def test_the_same_rows_are_the_same_file(make, server, url):
    answer(pull(make(), "--json"))
    path = make() / "data" / "visits" / "table.parquet"
    before = path.stat()
    with server.connect(url.rpartition("/")[2]) as connection:
        connection.execute("UPDATE visits SET city = city")  # moves every row on the disk

    again = answer(pull(make(), "--json"))

    assert (again["copied"], again["size_bytes"]) == (0, 0)
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert "as before" in pull(make()).stdout


def test_a_new_row_is_a_new_file(make, server, url):
    answer(pull(make(), "--json"))
    with server.connect(url.rpartition("/")[2]) as connection:
        connection.execute("INSERT INTO visits (id, bought) VALUES (50000, 'yes')")

    again = answer(pull(make(), "--json"))

    assert (again["copied"], again["rows"]) == (1, 45_002)


def test_a_query_is_run_as_it_stands(make):
    project = make('query: "SELECT id, age, bought FROM visits WHERE id > 44990 ORDER BY id DESC;"')

    done = answer(pull(project, "--json"))

    (folder,) = (project / "data").iterdir()
    table = pq.read_table(folder / "table.parquet")
    assert done["rows"] == 10
    assert table.column_names == ["id", "age", "bought"]
    assert table["id"].to_pylist() == list(range(45_000, 44_990, -1))


def test_a_query_cannot_change_the_database(make, server, url):
    done = pull(make('query: "DELETE FROM visits RETURNING id"'))

    assert done.returncode == 2
    with server.connect(url.rpartition("/")[2]) as connection:
        assert connection.execute("SELECT count(*) FROM visits").fetchone() == (45_001,)


def test_a_wrong_password_is_exit_2_and_nowhere_written(make):
    done = pull(make(), password="a wrong one")

    assert done.returncode == 2
    assert "password authentication failed" in done.stderr
    assert "a wrong one" not in done.stderr + done.stdout


def test_a_variable_that_is_not_set_is_named(make):
    done = pull(make(), password=None)

    assert done.returncode == 2
    assert "`SHOP_PASSWORD` is not set" in done.stderr


@pytest.mark.parametrize(
    ("what", "code", "says"),
    [
        ("table: visitors", 2, "visitors"),
        ('query: "SELECT nothing FROM visits"', 2, "nothing"),
        ('query: "SELEC 1"', 2, "syntax error"),
        ("query: \"SELECT '[1]'::json AS box\"", 3, "`box` holds json"),
        ('query: "SELECT 1 AS a, 2 AS a"', 3, "`a` twice"),
        ('query: "SELECT id FROM visits WHERE false"', 3, "no rows"),
    ],
)
def test_what_cannot_be_asked_is_named(make, what: str, code: int, says: str):
    done = pull(make(what))

    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert not list(make(what).glob("data/*/*"))


def test_a_server_that_is_down_is_exit_75(make):
    project = make()
    config = project / "mlstack.yaml"
    config.write_text(re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:9", config.read_text()))

    done = pull(project)

    assert done.returncode == 75
    assert "cannot be reached" in done.stderr


def test_a_table_that_was_changed_here_is_not_lost(make, server, url):
    answer(pull(make(), "--json"))
    path = make() / "data" / "visits" / "table.parquet"
    path.write_bytes(b"mine")
    refused = pull(make())
    kept = path.read_bytes()

    forced = answer(pull(make(), "--force", "--json"))

    assert refused.returncode == 3
    assert "--force" in refused.stderr
    assert kept == b"mine"
    assert forced["copied"] == 1


def test_a_source_needs_a_table_or_a_query(make):
    done = pull(make("table: visits, query: SELECT 1"))

    assert done.returncode == 2
    assert "a table or a query, one of them" in done.stderr
