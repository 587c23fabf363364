"""What `init` refuses, and that nothing is left behind."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mlstack.errors import ConfigError
from mlstack.init.naming import names_of


def start(folder: Path) -> "subprocess.Popen[bytes]":
    """Start an init and wait until its hidden folder has images."""
    command = [sys.executable, "-m", "mlstack", "init", "demo"]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE)
    until = time.monotonic() + 30
    while not list(folder.glob(".mlstack-init.*/data/digits/images/0*.png")):
        assert time.monotonic() < until
        time.sleep(0.01)
    return process


def test_a_folder_that_is_not_empty_is_refused_and_untouched(
    tmp_path: Path, run_init: Callable
) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "mine.txt").write_text("mine")

    done = run_init(tmp_path, "demo")

    assert done.returncode == 2
    assert "`demo` is there already and not empty" in done.stderr
    assert [p.name for p in tmp_path.rglob("*")] == ["demo", "mine.txt"]


def test_an_empty_folder_is_filled(tmp_path: Path, run_init: Callable) -> None:
    (tmp_path / "demo").mkdir()

    done = run_init(tmp_path, "demo", "--ci", "gitlab", "--template", "bare", "--quiet")

    assert (done.returncode, done.stdout) == (0, "demo\n")
    assert (tmp_path / "demo" / ".gitlab-ci.yml").is_file()
    assert "mlstack" not in (tmp_path / "demo" / "demo" / "model.py").read_text().split('"""')[2]


@pytest.mark.parametrize(("name", "typed"), [("-x", "./-x"), ("it's mine", "'it'\"'\"'s mine'")])
def test_the_next_step_can_be_typed_whatever_the_project_is_called(
    tmp_path: Path, run_init: Callable, name: str, typed: str
) -> None:
    done = run_init(tmp_path, "--template", "bare", "--", name)

    assert done.stdout.splitlines()[-1].startswith(f"Next: cd {typed} && ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("demo", "--template", "text"),
            "bare, image-classification, tabular, text-classification",
        ),
        (("demo", "--deploy", "docker,nomad"), "--deploy cannot write `nomad`"),
        (("demo", "--ci", "jenkins"), "github"),
        (("demo", "--template", "bare", "--data", "."), "reads its own data"),
        (("demo", "--data", __file__), "is a file; --data copies a folder"),
        (("demo", "--data", __file__), "say --template tabular or text-classification, too"),
        (("demo", "--label", "kind"), "--label names a column of your own table"),
        ((".",), "is the folder you are in"),
        (("x" * 300,), "has 300 characters"),
        (("!!!",), "cannot name a project"),
        ((), "Missing argument 'NAME'"),
    ],
)
def test_a_wish_that_cannot_be_is_refused(
    tmp_path: Path, run_init: Callable, arguments: tuple[str, ...], words: str
) -> None:
    done = run_init(tmp_path, *arguments)

    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_kill_9_leaves_no_project_and_the_next_init_cleans_up(
    tmp_path: Path, run_init: Callable
) -> None:
    process = start(tmp_path)
    process.kill()
    process.communicate()

    left = sorted(p.name for p in tmp_path.iterdir())
    done = run_init(tmp_path, "demo", "--json")

    assert left == [f".mlstack-init.{process.pid}"]
    assert json.loads(done.stdout)["ok"]
    assert [p.name for p in tmp_path.iterdir()] == ["demo"]


# What a git or dvc does that outlives the init that started it: it fills the folder it works in.
WRITER = """
import os, time
until = time.monotonic() + 60  # it ends before: when its folder is gone
number = 0
while time.monotonic() < until:
    number += 1
    os.makedirs(f"d{number % 50}", exist_ok=True)
    open(f"d{number % 50}/{number}", "w").close()
"""


def test_what_a_killed_init_left_goes_while_its_git_still_writes(
    tmp_path: Path, run_init: Callable
) -> None:
    left = tmp_path / f".mlstack-init.{2**22 + 1}"  # a process number that Linux never gives
    left.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", WRITER], cwd=left, stderr=subprocess.DEVNULL
    ) as writer:
        while len(list(left.iterdir())) < 50:
            time.sleep(0.01)

        done = run_init(tmp_path, "demo")

        assert writer.poll() != 0  # it could not go on to its end
    assert done.returncode == 0
    assert not left.exists()


def test_sigterm_leaves_nothing(tmp_path: Path) -> None:
    process = start(tmp_path)

    process.send_signal(signal.SIGTERM)
    process.communicate()

    assert process.returncode == 143
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, run_init: Callable) -> None:
    (tmp_path / "file").write_text("")

    done = run_init(tmp_path, "file/demo")

    assert done.returncode == 6
    assert "cannot make a folder" in done.stderr


@pytest.mark.parametrize(
    ("typed", "project", "package"),
    [
        ("digits-demo", "digits-demo", "digits_demo"),
        ("My Photos", "My-Photos", "my_photos"),
        ("2cats", "2cats", "p_2cats"),
        ("Größe der Äpfel", "Grosse-der-Apfel", "grosse_der_apfel"),
        ("Łódź", "Lodz", "lodz"),
        ("class", "class", "p_class"),
        ("json", "json", "json_project"),
        ("torch", "torch", "torch_project"),
        ("data", "data", "data_project"),
        ("v1.2", "v1.2", "v1_2"),
        ("2026", "p-2026", "p_2026"),
        ("2026-11-26", "p-2026-11-26", "p_2026_11_26"),
        ("true", "p-true", "p_true"),
        ("No", "p-No", "p_no"),
    ],
)
def test_names_can_be_imported_and_hide_nothing(typed: str, project: str, package: str) -> None:
    names = names_of(Path(typed))

    assert (names.project, names.package) == (project, package)
    assert names.package.isidentifier()


def test_a_name_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError):
        names_of(Path("!!!"))


@pytest.mark.parametrize("option", [("--set", "train.epochs=3"), ("--config", "foo.yaml")])
def test_options_about_a_project_that_is_not_there_are_refused(
    option: tuple[str, str], tmp_path: Path, run_init: Callable
) -> None:
    done = run_init(tmp_path, "demo", *option)

    assert done.returncode == 2
    assert f"init takes no `{option[0]}`" in done.stderr
    assert not (tmp_path / "demo").exists()
