"""One list of the runs of all machines, in a real Postgres."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_server import PASSWORD, Postgres, serving
from train.test_train_runs import make_run


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with serving() as running:
        yield running


@pytest.fixture
def database(server: Postgres, request: pytest.FixtureRequest) -> str:
    name = f"d{abs(hash(request.node.name)) % 10**12}"
    with server.connect() as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return name


@pytest.fixture
def shared(project: Path, server: Postgres, database: str) -> Path:
    """A project whose runs go into the list of all."""
    config = project / "mlstack.yaml"
    track = f'track: {{store: "{server.url(database)}", password: "env:TRACK_PASSWORD"}}\n'
    config.write_text(config.read_text() + track)
    return project


def ls(folder: Path, *words: str, password: str | None = PASSWORD):
    env = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
    env |= {"TRACK_PASSWORD": password} if password is not None else {}
    command = [sys.executable, "-m", "mlstack", "train", "ls", *words]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)


def listed(folder: Path) -> list[dict]:
    done = ls(folder, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["runs"]


def test_the_shared_list_says_what_the_local_index_says(shared: Path):
    for epochs in (2, 3):
        make_run(shared, epochs=epochs)
    local = subprocess.run(
        [sys.executable, "-m", "mlstack", "train", "ls", "--json", "--set", "track.store=local",
         "--set", "track.password=null"],
        cwd=shared, capture_output=True, text=True,
    )  # fmt: skip

    assert listed(shared) == json.loads(local.stdout)["runs"]


def test_runs_of_two_places_are_in_one_list(shared: Path, tmp_path: Path):
    other = Path(shutil.copytree(shared, tmp_path / "other"))
    here, there = make_run(shared), make_run(other)

    listed(other)
    rows = {row["id"]: row for row in listed(shared)}

    assert rows.keys() == {here.id, there.id}
    assert rows[here.id]["host"] == ""
    assert rows[there.id]["host"]
    assert f"on {rows[there.id]['host']}" in ls(shared).stdout


def test_a_run_that_is_deleted_here_leaves_the_list_and_others_stay(shared: Path, tmp_path: Path):
    other = Path(shutil.copytree(shared, tmp_path / "other"))
    here, there = make_run(shared), make_run(other)
    listed(other)
    listed(shared)
    shutil.rmtree(shared / ".mlstack" / "runs" / here.id)

    assert [row["id"] for row in listed(shared)] == [there.id]


def test_metrics_of_every_epoch_can_be_asked_in_sql(shared: Path, server, database: str):
    run = make_run(shared, epochs=3)
    listed(shared)
    listed(shared)

    with server.connect(database) as connection:
        found = connection.execute(
            "SELECT epoch, count(*) FROM mlstack_metrics_v1 WHERE run = %s GROUP BY 1 ORDER BY 1",
            [run.id],
        ).fetchall()

    assert [epoch for epoch, _ in found] == [1, 2, 3]


@pytest.mark.slow
def test_many_machines_may_ask_at_once(shared: Path, tmp_path: Path):
    places = [Path(shutil.copytree(shared, tmp_path / f"place{n}")) for n in range(4)]
    made = {make_run(place).id for place in places}
    env = os.environ | {"TRACK_PASSWORD": PASSWORD}
    command = [sys.executable, "-m", "mlstack", "train", "ls", "--quiet"]

    asked = [subprocess.Popen(command, cwd=place, env=env, stdout=-3) for place in places]

    assert [one.wait(60) for one in asked] == [0] * 4
    assert {row["id"] for row in listed(shared)} == made


@pytest.mark.parametrize(
    ("password", "says"), [("wrong", "password authentication failed"), (None, "`TRACK_PASSWORD`")]
)
def test_a_refused_password_is_exit_2(shared: Path, password: str | None, says: str):
    done = ls(shared, password=password)

    assert done.returncode == 2
    assert says in done.stderr


def test_a_server_that_is_down_is_exit_75_for_the_list(shared: Path):
    done = ls(shared, "--set", "track.store=postgresql://owner@127.0.0.1:9/x")

    assert done.returncode == 75
    assert "track.store" in done.stderr


@pytest.mark.slow
def test_training_lists_its_run_and_a_server_that_is_down_fails_no_training(
    shared, server, database
):
    command = [sys.executable, "-m", "mlstack", "train", "--epochs", "1"]
    env = os.environ | {"TRACK_PASSWORD": PASSWORD}
    down = ["--set", "track.store=postgresql://owner@127.0.0.1:9/x"]

    well = subprocess.run(command, cwd=shared, env=env, capture_output=True, text=True)
    with server.connect(database) as connection:
        states = connection.execute("SELECT row->>'state' FROM mlstack_runs_v1").fetchall()
    ill = subprocess.run([*command, *down], cwd=shared, env=env, capture_output=True, text=True)

    assert well.returncode == 0, well.stderr
    assert states == [("finished",)]
    assert ill.returncode == 0, ill.stderr
    assert "not in the list of all runs yet" in ill.stderr
    assert len(listed(shared)) == 2
