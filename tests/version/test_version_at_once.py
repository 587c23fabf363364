"""The plain forms of `mlstack version ...` answer as the command line does, and load less."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel

from mlstack.config import load
from mlstack.records import known
from mlstack.version import at_once

PROBE = """
import sys
from mlstack.__main__ import main
sys.argv = ["mlstack", "version", *{words!r}]
try:
    main()
except SystemExit as end:
    print("LOADED", *sorted(m for m in sys.modules if "." not in m))
    sys.exit(end.code)
"""


def loaded(project: Path, *words: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(words=words)],
        cwd=project, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(done.stdout.rpartition("LOADED")[2].split())


def test_a_plain_command_loads_neither_typer_nor_the_schema(snapshotted, version) -> None:
    version("diff")  # checks mlstack.yaml, and remembers

    found = loaded(snapshotted, "diff", "--json")

    assert not found & {"typer", "pydantic", "ruamel", "rich", "numpy", "pyarrow", "dvc"}


@pytest.mark.parametrize("words", [("diff",), ("snapshot", "-m", "again"), ("checkout", "HEAD")])
def test_a_plain_command_answers_as_the_command_line_does(snapshotted, version, words) -> None:
    long = ("--config", "mlstack.yaml")  # an option more: the command line reads it

    for mode in ((), ("--json",), ("--quiet",)):
        short, full = version(*words, *mode), version(*words, *long, *mode)

        assert (short.returncode, short.stdout, short.stderr) == (
            full.returncode,
            full.stdout,
            full.stderr,
        )


def test_a_mistake_in_the_settings_is_named_although_they_were_known(snapshotted, version) -> None:
    version("diff")
    config = snapshotted / "mlstack.yaml"
    config.write_text(config.read_text() + "oops: 1\n")

    done = version("diff")

    assert done.returncode == 2
    assert "oops" in done.stderr


def test_every_place_of_a_setting_makes_what_is_known_stale(snapshotted, monkeypatch) -> None:
    config = snapshotted / "mlstack.yaml"
    known.project(config)
    remotes = []

    (snapshotted / "mlstack.local.yaml").write_text("versioning: {remote: ../local}\n")
    remotes.append(known.project(config).config.versioning.remote)
    monkeypatch.setenv("MLSTACK_VERSIONING__REMOTE", "../environment")
    remotes.append(known.project(config).config.versioning.remote)

    assert remotes == ["../local", "../environment"]


def plain_of(section: Any) -> Any:
    if isinstance(section, BaseModel):
        return section.model_dump(mode="json")
    if isinstance(section, SimpleNamespace):
        return {name: plain_of(value) for name, value in vars(section).items()}
    return section


def test_what_is_known_is_what_was_checked(snapshotted) -> None:
    path = snapshotted / "mlstack.yaml"
    checked = load(path).config

    for _ in ("the first time", "from what is remembered"):
        seen = known.project(path)
        assert seen.root == snapshotted
        for name in known.SECTIONS:
            plain = getattr(checked, name).model_dump(mode="json")
            known_here = plain_of(getattr(seen.config, name))
            assert {field: known_here[field] for field in plain} == plain
        assert seen.config.data.folder == checked.data.folder
        assert seen.config.data.is_remote is checked.data.is_remote


@pytest.mark.parametrize(
    "words",
    [
        ("diff", "HEAD"), ("push", "--all"), ("pull", "--force"), ("checkout", "--force"), ("gc",),
        ("snapshot", "-m"), ("snapshot", "-m", "--json"), ("diff", "--json", "--json"),
        ("diff", "--debug"), ("diff", "--set", "versioning.remote=x"),
    ],
)  # fmt: skip
def test_every_other_form_is_left_to_the_command_line(project, monkeypatch, words) -> None:
    monkeypatch.chdir(project)

    assert at_once.find(["version", *words]) is None
    assert at_once.find(["version", "diff"]) is not None
