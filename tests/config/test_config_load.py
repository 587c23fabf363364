"""What is in force, and who said so."""

import json
from pathlib import Path

import pytest

from mlstack.config import load
from mlstack.config.migrate import rewrite
from mlstack.errors import ConfigError

WHOLE = Path(__file__).with_name("whole.yaml")
SMALLEST = """\
version: 1
project: {name: a, task: tabular}
data: {source: data/a}
model: {class: a.b:C}
"""


def small(folder: Path, more: str = "") -> Path:
    path = folder / "mlstack.yaml"
    path.write_text(SMALLEST + more)
    return path


def test_the_whole_example_is_valid_and_read_as_yaml_1_2() -> None:
    project = load(WHOLE)

    assert project.config.model.args["lr"] == 0.001
    assert project.config.data.split.group_by is None
    assert project.root == WHOLE.parent.resolve()


def test_four_lines_are_enough(tmp_path: Path) -> None:
    assert load(small(tmp_path)).config.train.epochs == 10


def test_later_layers_win_and_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small(tmp_path, "train: {epochs: 1, batch_size: 2, patience: 3, gpus: 0}\n")
    (tmp_path / "mlstack.local.yaml").write_text(
        "train:\n  batch_size: 4\n  patience: 5\n  gpus: 1\n"
    )
    monkeypatch.setenv("MLSTACK_TRAIN__PATIENCE", "6")
    monkeypatch.setenv("MLSTACK_TRAIN__GPUS", "2")

    project = load(path, sets=("train.gpus=[0, 1]",))

    train = project.config.train
    assert (train.epochs, train.batch_size, train.patience, train.gpus) == (1, 4, 6, [0, 1])
    assert [
        project.origins[f"train.{key}"] for key in ("epochs", "batch_size", "patience", "gpus")
    ] == [
        "mlstack.yaml:5",
        "mlstack.local.yaml:2",
        "MLSTACK_TRAIN__PATIENCE",
        "--set",
    ]
    assert project.origins["serve.port"] == "default"


def test_variables_without_a_double_underscore_are_not_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLSTACK_OFFLINE", "1")

    assert load(small(tmp_path)).config.version == 1


def test_groups_are_joined_and_lists_replaced(tmp_path: Path) -> None:
    path = small(tmp_path, "monitor: {on_alert: [log]}\n")

    config = load(
        path, sets=("model.args.lr=1e-3", "model.args.width=8", "monitor.on_alert=[]")
    ).config

    assert config.model.args == {"lr": 0.001, "width": 8}
    assert config.monitor.on_alert == []


def test_a_dimension_is_replaced_whole(tmp_path: Path) -> None:
    path = small(tmp_path, "tune: {space: {model.args.lr: {uniform: [0, 1]}}}\n")

    project = load(path, sets=("tune.space.model.args.lr.choice=[1, 2]",))

    assert project.config.tune.space["model.args.lr"].choice == [1, 2]
    assert project.origins["tune.space.model.args.lr.choice"] == "--set"


def test_an_empty_section_says_nothing(tmp_path: Path) -> None:
    assert load(small(tmp_path, "train:\nserve:\n")).config.train.epochs == 10


def test_words_that_yaml_1_1_would_change_stay_words(tmp_path: Path) -> None:
    config = load(small(tmp_path), sets=("model.args.country=no", "model.args.time=12:30")).config

    assert config.model.args == {"country": "no", "time": "12:30"}


def test_characters_written_as_json_writes_them_are_whole(tmp_path: Path) -> None:
    escaped = json.dumps(["smile \U0001f600", "\U0001f408", "\u732b"])
    file = small(tmp_path, f"tune: {{space: {{model.args.a: {{choice: {escaped}}}}}}}\n")
    half = tmp_path / "half.yaml"
    half.write_text(file.read_text().replace("\\ude00", ""))

    space = load(file).config.tune.space

    assert space["model.args.a"].choice == ["smile \U0001f600", "\U0001f408", "\u732b"]
    with pytest.raises(ConfigError) as refused:
        load(half)
    (mistake,) = refused.value.mistakes
    assert "half of a character" in mistake.problem
    assert ":5:" in mistake.where


def test_a_file_of_this_version_is_migrated_to_the_same_bytes() -> None:
    text = WHOLE.read_text()

    assert rewrite(text) == text


def test_a_step_of_migration_keeps_comments() -> None:
    before = "# mine\nversion: 1\ntrain:\n  epoch: 3   # why three\n  patience: null\n"

    def step(document: dict) -> None:
        document["train"]["epochs"] = document["train"].pop("epoch")

    after = rewrite(before, {1: step}, newest=2)

    assert after.startswith("# mine\nversion: 2\n")
    assert "epochs: 3" in after
    assert "patience: null" in after
