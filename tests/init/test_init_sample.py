"""The project that `mlstack init NAME` makes."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from ruamel.yaml import YAML

from mlstack.config import load
from mlstack.records import data_folder, dvc
from mlstack.records.base import read
from mlstack.records.dataset import read_labels
from mlstack.records.origin import Origin


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, run_init: Callable) -> Path:
    folder = tmp_path_factory.mktemp("made")
    done = run_init(folder, "digits-demo", "--deploy", "docker,systemd,k8s", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["images"], answer["labeled"], len(answer["classes"])) == (1797, 1750, 10)
    return folder / "digits-demo"


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
    ).stdout


def test_the_config_is_valid_and_names_the_users_own_classes(made: Path) -> None:
    config = load(made / "mlstack.yaml").config

    assert config.project.name == "digits-demo"
    assert config.model.class_ == "digits_demo.model:Net"
    assert config.data.module == "digits_demo.data:Images"
    assert (made / ".mlstack" / "schema.json").is_file()
    assert (
        (made / "mlstack.yaml").read_text().startswith("# yaml-language-server: $schema=.mlstack")
    )


def test_the_digits_are_real_images_and_the_last_wait_for_a_label(made: Path) -> None:
    images = sorted((made / "data" / "digits" / "images").iterdir())
    labels = read_labels(made / "data" / "digits" / "labels.parquet").to_pylist()

    assert len(images) == 1797
    with Image.open(images[0]) as image:
        assert image.size == (8, 8)
    assert labels[0] == {"path": "images/0000.png", "label": "0"}
    assert labels[-1]["path"] == "images/1749.png"


def test_the_data_card_names_origin_and_licence(made: Path) -> None:
    card = (made / "data" / "README.md").read_text()

    assert "UCI Machine Learning Repository" in card
    assert "CC BY 4.0" in card


def test_the_placeholder_is_nowhere(made: Path) -> None:
    texts = [made / name for name in git(made, "ls-files").split()]

    assert not [
        p for p in texts if re.search(r"my[_-]project|DATA_SOURCE|MLSTACK_VER", p.read_text())
    ]


def test_git_has_one_commit_and_a_clean_tree_and_no_data(made: Path) -> None:
    assert git(made, "rev-list", "--count", "HEAD").strip() == "1"
    assert git(made, "branch", "--show-current").strip() == "main"
    assert git(made, "status", "--porcelain") == ""
    assert not [
        name for name in git(made, "ls-files").split() if name.endswith((".png", ".parquet"))
    ]


def test_stock_dvc_agrees_and_stays_silent(made: Path) -> None:
    status = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json"],
        cwd=made,
        capture_output=True,
        text=True,
        check=True,
    )
    config = (made / ".dvc" / "config").read_text()

    assert json.loads(status.stdout) == {}
    pointer = dvc.read_pointer(made / "data" / "digits.dvc")
    assert pointer is not None
    assert pointer.md5 == data_folder.hash_folder(made / "data" / "digits").md5
    assert "analytics = false" in config
    assert "check_update = false" in config
    assert "autostage = false" in config


def test_the_project_remembers_its_template(made: Path) -> None:
    assert read(made / ".mlstack" / "origin.json", Origin).template == "image-classification"


def test_every_mlstack_line_of_the_workflows_is_a_command(made: Path, run_init: Callable) -> None:
    workflow = YAML(typ="safe", pure=True).load(made / ".github" / "workflows" / "mlstack.yml")
    lines = [step["run"] for step in workflow["jobs"]["test"]["steps"] if "run" in step]
    commands = {line.split("#")[0].strip() for line in lines if line.startswith("mlstack ")}

    help_text = subprocess.run(
        [sys.executable, "-m", "mlstack", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert len(commands) >= 4
    for command in commands:
        assert re.search(rf"^  {command.split()[1]} ", help_text, re.MULTILINE), command


def test_deploy_files_serve_without_torch(made: Path) -> None:
    manifests = list(YAML(typ="safe", pure=True).load_all(made / "deploy" / "k8s.yaml"))

    assert [manifest["kind"] for manifest in manifests] == ["Deployment", "Service"]
    assert manifests[0]["metadata"]["name"] == "digits-demo"
    dockerfile = (made / "deploy" / "Dockerfile").read_text()
    assert "mlstack[" not in dockerfile
    assert "/opt/digits-demo" in (made / "deploy" / "mlstack.service").read_text()


def test_the_projects_own_tests_are_found_and_say_what_to_do_first(made: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}

    found = subprocess.run(
        [*command, "--collect-only", "-m", "training or validation or functionality"],
        cwd=made,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    early = subprocess.run(
        [*command, "-m", "validation or functionality"],
        cwd=made,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert "4 tests collected" in found.stdout
    assert early.returncode == 1
    assert "there is no package yet; type `mlstack train` and `mlstack export`" in early.stdout


def test_model_and_data_are_short(made: Path) -> None:
    for name in ("model", "data"):
        assert len((made / "digits_demo" / f"{name}.py").read_text().splitlines()) <= 60
