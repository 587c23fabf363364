"""What every command does with mistakes in its own words."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


def mlstack(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mlstack", *words],
        cwd=cwd, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_misspelt_command_gets_a_suggestion_and_exit_code_2(tmp_path: Path):
    done = mlstack("trian", cwd=tmp_path)

    assert done.returncode == 2
    assert "Did you mean 'train'?" in done.stderr
    assert done.stdout == ""


def test_a_shortened_option_is_not_guessed(tmp_path: Path):
    done = mlstack("train", "--gpu", "2", cwd=tmp_path)

    assert done.returncode == 2
    assert "--gpus" in done.stderr


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (("tune", "show", "--html"), "tune show"),
        (("tune", "--trials"), "tune"),
        (("export", "a-run", "--precision"), "export"),
        (("init", "demo", "--data"), "init"),
    ],
)
def test_an_option_without_its_value_is_sent_to_the_help_of_its_command(
    tmp_path: Path, words: tuple[str, ...], command: str
):
    done = mlstack(*words, cwd=tmp_path)

    assert done.returncode == 2
    assert f"type `mlstack {command} --help`" in done.stderr


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("export", "--format", ""), "--format"),
        (("export", "--format", ","), "--format"),
        (("export", "--format="), "--format"),
        (("export", "--budget", " "), "--budget"),
        (("init", "demo", "--data", ""), "--data"),
        (("init", "demo", "--deploy", ""), "--deploy"),
        (("version", "snapshot", "-m", ""), "-m"),
        (("monitor", "check", "--since", ""), "--since"),
        (("serve", "--model", ""), "--model"),
        (("train", "--set", ""), "--set"),
        (("train", "show", ""), "show"),
        (("",), "mlstack"),
    ],
)
def test_an_empty_value_is_refused_and_not_taken_for_none(
    tmp_path: Path, words: tuple[str, ...], option: str
):
    done = mlstack(*words, cwd=tmp_path)

    assert done.returncode == 2
    assert f"what stands after `{option}` says nothing" in done.stderr
    assert "hint: write a value, or leave" in done.stderr
    assert not list(tmp_path.iterdir())


def test_an_overridden_setting_may_be_empty(tmp_path: Path):
    done = mlstack("train", "--set=export.budget=", "--set", "train.slurm.qos=", cwd=tmp_path)

    assert "says nothing" not in done.stderr


def test_an_error_in_json_mode_is_one_object_on_stdout(tmp_path: Path):
    done = mlstack("train", "--json", cwd=tmp_path)

    answer = json.loads(done.stdout)
    assert done.returncode == 2
    assert answer["ok"] is False
    assert answer["error"]["code"] == 2
    assert "mlstack init" in answer["error"]["hint"]


def test_h_is_short_for_help(tmp_path: Path):
    for words in ((), ("train",), ("version", "diff")):
        short, long = mlstack(*words, "-h", cwd=tmp_path), mlstack(*words, "--help", cwd=tmp_path)
        assert short.returncode == 0
        assert short.stdout == long.stdout


def test_in_a_folder_of_a_project_the_bare_command_says_where_the_project_is(tmp_path: Path):
    (tmp_path / "mlstack.yaml").write_text("version: 1\n")
    (tmp_path / "data" / "digits").mkdir(parents=True)

    done = mlstack(cwd=tmp_path / "data" / "digits")

    assert done.returncode == 2
    assert f"hint: cd {tmp_path}" in done.stderr


def test_outside_a_project_the_bare_command_shows_help(tmp_path: Path):
    done = mlstack(cwd=tmp_path)

    assert done.returncode == 0
    assert done.stdout.startswith("Usage: mlstack")


def test_a_closed_pipe_is_not_an_error(tmp_path: Path):
    line = f"{sys.executable} -m mlstack --help | head -n 1"

    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], cwd=tmp_path, capture_output=True, text=True
    )

    assert done.stderr == ""


def test_the_bare_command_takes_the_options_that_every_command_has(project: Path, tmp_path: Path):
    answer = mlstack("--json", cwd=project)
    away = mlstack("--config", str(project / "mlstack.yaml"), "--quiet", cwd=tmp_path)

    assert json.loads(answer.stdout)["ok"] is True
    assert (answer.returncode, away.returncode) == (0, 0)
    assert away.stdout.strip()
    assert mlstack("--json", cwd=tmp_path).returncode == 2
