"""The features of a project as Feast's definitions. Feast 0.67 applies what is written here."""

import ast
import datetime as dt
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

CONFIG = """version: 1
project: {{name: my-shop, task: tabular}}
data: {{source: data/t{features}}}
model: {{class: "m:M"}}
"""
FEATURES = ", features: {key: who, time: at, files: [buys-2.parquet], ttl: 1d12h}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    columns = {
        "who": pa.array(["a"]),
        "at": pa.array([dt.datetime(2026, 1, 1)]),
        "spend": pa.array([0.5]),
        "visits": pa.array([3], pa.int32()),
        "tier": pa.array(["gold"]),
        "active": pa.array([True]),
    }
    (tmp_path / "data" / "t").mkdir(parents=True)
    pq.write_table(pa.table(columns), tmp_path / "data" / "t" / "buys-2.parquet")
    (tmp_path / "mlstack.yaml").write_text(CONFIG.format(features=FEATURES))
    return tmp_path


def feast(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mlstack", "config", "feast", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_both_files_are_written_and_say_what_the_config_says(folder: Path):
    done = feast(folder, "--out", "repo")

    assert done.returncode == 0, done.stderr
    store = YAML(typ="safe").load((folder / "repo" / "feature_store.yaml").read_text())
    python = (folder / "repo" / "definitions.py").read_text()
    made = {
        node.targets[0].id: {word.arg: ast.unparse(word.value) for word in node.value.keywords}
        for node in ast.parse(python).body
        if isinstance(node, ast.Assign)
    }
    assert store["project"] == "my_shop"
    assert list(made) == ["who", "buys_2", "my_shop"]
    assert made["who"]["value_type"] == "ValueType.STRING"
    assert made["buys_2"]["ttl"] == "timedelta(days=1, hours=12)"
    assert made["buys_2"]["schema"].count("Field(") == 4
    assert "Field(name='visits', dtype=Int32)" in made["buys_2"]["schema"]
    assert str(folder / "data" / "t" / "buys-2.parquet") in made["buys_2"]["source"]


def test_without_out_both_are_printed(folder: Path):
    done = feast(folder)

    assert "entity_key_serialization_version" in done.stdout
    assert "FeatureView(" in done.stdout
    assert not (folder / "repo").exists()


def test_a_project_without_features_is_exit_2(folder: Path):
    (folder / "mlstack.yaml").write_text(CONFIG.format(features=""))

    done = feast(folder)

    assert done.returncode == 2
    assert "data.features" in done.stderr


def test_a_file_that_is_not_there_is_exit_3(folder: Path):
    (folder / "data" / "t" / "buys-2.parquet").unlink()

    done = feast(folder)

    assert done.returncode == 3
    assert "buys-2.parquet" in done.stderr
