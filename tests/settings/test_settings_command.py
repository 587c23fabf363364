"""The command `config`, as a user types it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

WHOLE = Path(__file__).parent.parent / "config" / "whole.yaml"
HEAVY = (
    "torch",
    "pytorch_lightning",
    "onnxruntime",
    "duckdb",
    "dvc",
    "optuna",
    "pyarrow",
    "numpy",
    "rich",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mlstack.yaml").write_text(WHOLE.read_text())
    return tmp_path


def mlstack(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mlstack", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_show_gives_values_and_who_said_so(folder: Path) -> None:
    short = mlstack(folder, "config", "show")
    everything = mlstack(folder, "config", "show", "--all", "--origin", "--set", "train.epochs=3")

    assert short.returncode == 0
    assert "train.epochs: 10\n" in short.stdout
    assert "serve.max_body_mb" not in short.stdout
    lines = {line.split(":")[0]: line for line in everything.stdout.splitlines() if ": " in line}
    assert lines["train.epochs"].endswith("# --set")
    assert lines["serve.max_body_mb"].endswith("# default")
    assert lines["project.name"].endswith("# mlstack.yaml:5")


def test_show_as_json_is_one_object(folder: Path) -> None:
    done = mlstack(folder, "config", "show", "--json")

    body = json.loads(done.stdout)
    assert body["ok"]
    assert {"key": "serve.port", "value": 8000, "origin": "mlstack.yaml:70"} in body["settings"]


def test_the_schema_accepts_the_example_and_refuses_a_typo(folder: Path) -> None:
    done = mlstack(folder, "config", "schema", "--write")

    schema = json.loads((folder / ".mlstack" / "schema.json").read_text())
    document = YAML(typ="safe", pure=True).load(WHOLE)
    validator = Draft202012Validator(schema)
    assert done.returncode == 0
    assert validator.is_valid(document)
    document["train"]["epoch"] = 3
    assert not validator.is_valid(document)


def test_migrate_has_nothing_to_do_and_leaves_the_file_alone(folder: Path) -> None:
    before = (folder / "mlstack.yaml").read_bytes()

    done = mlstack(folder, "config", "migrate", "--write")

    assert "nothing to do" in done.stdout
    assert (folder / "mlstack.yaml").read_bytes() == before


def test_a_mistake_exits_2_on_stderr_and_as_json(folder: Path) -> None:
    text = mlstack(folder, "config", "show", "--set", "train.epoks=3")
    body = mlstack(folder, "config", "show", "--set", "train.epoks=3", "--json")

    assert (text.returncode, body.returncode) == (2, 2)
    assert text.stdout == ""
    assert text.stderr == (
        'error: train.epoks: "epoks" is not a setting; did you mean "epochs"?\n'
        "  --> --set train.epoks=3\n"
        "1 problem in `--set`. Nothing was run.\n"
    )
    (error,) = json.loads(body.stdout)["error"]["errors"]
    assert error["key"] == "train.epoks"


def test_a_mistake_and_help_load_no_heavy_library(folder: Path) -> None:
    wrong = ("--set", "train.epoks=3")
    calls = (("config", "show", *wrong), ("--help",), ("train", *wrong), ("export", *wrong))
    for arguments in calls:
        command = [sys.executable, "-X", "importtime", "-m", "mlstack", *arguments]

        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)

        loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
        assert "typer" in loaded
        assert not loaded & set(HEAVY)


def test_the_help_of_a_command_is_shown_without_reading_its_options(folder: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "mlstack", "config", "show", "--help"]

    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)

    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: mlstack config show [OPTIONS]\n")
    assert "pydantic" not in loaded


def test_the_help_of_an_unknown_command_is_a_mistake(folder: Path) -> None:
    done = mlstack(folder, "confg", "--help")

    assert done.returncode == 2
    assert "Did you mean 'config'?" in done.stderr


def test_a_date_is_shown_as_it_is_written(folder: Path):
    asked = ("--set", "monitor.drift.since=2026-02-03")

    text = mlstack(folder, "config", "show", *asked)
    body = json.loads(mlstack(folder, "config", "show", "--json", *asked).stdout)

    assert 'since: "2026-02-03"' in text.stdout
    found = {one["key"]: one["value"] for one in body["settings"]}
    assert found["monitor.drift.since"] == "2026-02-03"
