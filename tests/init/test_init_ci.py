"""The shipped workflows, run line by line in a fresh clone as the CI would."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

FILES = {"github": ".github/workflows/mlstack.yml", "gitlab": ".gitlab-ci.yml"}
CONDITION = "steps.data.outputs.here == 'yes'"


def github(clone: Path, environment: dict[str, str]) -> tuple[int, list[str]]:
    """Run the steps; give the first exit code that is not 0, and the lines that were run."""
    output = clone.parent / "output"
    output.touch()
    ran: list[str] = []
    for step in load(clone, "github")["jobs"]["test"]["steps"]:
        line, condition = step.get("run", ""), step.get("if", CONDITION)
        assert condition == CONDITION
        if not line or line.startswith("pip install"):
            continue
        if "if" in step and "here=yes" not in output.read_text():
            continue
        ran.append(line)
        code = bash(clone, line, environment | {"GITHUB_OUTPUT": str(output)})
        if code:
            return code, ran
    return 0, ran


def gitlab(clone: Path, environment: dict[str, str]) -> tuple[int, list[str]]:
    """Run all lines in one shell, as GitLab does."""
    lines = load(clone, "gitlab")["test"]["script"]
    lines = [line for line in lines if not line.startswith("pip install")]
    log = clone.parent / "ran"
    log.touch()
    said = [f"echo {number} >> {log}\n{line}" for number, line in enumerate(lines)]
    code = bash(clone, "\n".join(said), environment)
    return code, [lines[int(number)] for number in log.read_text().split()]


def load(clone: Path, kind: str) -> Any:
    return YAML(typ="safe").load((clone / FILES[kind]).read_text())


def bash(folder: Path, script: str, environment: dict[str, str]) -> int:
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script], cwd=folder, env=environment, check=False
    )
    return done.returncode


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Give `mlstack` and `pytest` of this Python, wherever they are installed."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("mlstack", "pytest"):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {name} "$@"\n')
        script.chmod(0o755)
    return os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}


def clone_of(project: Path, clone: Path) -> Path:
    command = ["git", "clone", "-q", "--depth", "1", f"file://{project}", str(clone)]
    subprocess.run(command, check=True)
    return clone


@pytest.mark.slow
@pytest.mark.parametrize("template", ["image-classification", "tabular", "text-classification"])
def test_the_workflows_are_green_in_a_clone_of_a_new_project(
    template, run_init, environment, tmp_path
) -> None:
    run_init(tmp_path, "first", "--template", template)
    clone = clone_of(tmp_path / "first", tmp_path / "clone")
    run_init(tmp_path, "second", "--template", template, "--ci", "gitlab")
    shutil.copy(tmp_path / "second" / FILES["gitlab"], clone)

    code, ran = github(clone, environment)
    code_gitlab, ran_gitlab = gitlab(clone, environment)

    assert (code, code_gitlab) == (0, 0)
    assert "mlstack doctor" in ran
    assert "mlstack train" not in ran
    assert "mlstack doctor" in ran_gitlab
    assert "mlstack train" not in ran_gitlab


@pytest.mark.e2e
@pytest.mark.slow
def test_the_workflow_trains_and_exports_where_the_data_has_a_remote(
    run_init, environment, tmp_path
) -> None:
    run_init(tmp_path, "project", "--template", "tabular")
    project = tmp_path / "project"
    settings = project / "mlstack.yaml"
    settings.write_text(f"{settings.read_text()}\nversioning: {{remote: {tmp_path / 'store'}}}\n")
    who = "-c user.name=Test -c user.email=test@example.invalid"
    assert bash(project, f"git {who} commit -qam remote && mlstack version push", environment) == 0

    code, ran = github(clone_of(project, tmp_path / "clone"), environment)

    assert code == 0, ran[-1]
    assert "mlstack export" in ran
    assert list((tmp_path / "clone" / "models").glob("*/1/model.onnx"))


@pytest.mark.slow
@pytest.mark.parametrize("run", [github, gitlab])
def test_a_remote_that_is_away_makes_the_workflow_red(run, run_init, environment, tmp_path) -> None:
    kind = run.__name__
    run_init(tmp_path, "project", "--ci", kind)
    clone = clone_of(tmp_path / "project", tmp_path / "clone")
    settings = clone / "mlstack.yaml"
    away = tmp_path / "no" / "store"
    settings.write_text(f"{settings.read_text()}\nversioning: {{remote: {away}}}\n")

    code, _ = run(clone, environment)

    assert code == 75
