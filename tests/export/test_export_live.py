"""The live package beside a new one: what is known of it, and when it is the one that is broken."""

import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import planted
import pytest
from export_runs import copy_project, mlstack
from fatal_graphs import fatal, fatal_for_two

from mlstack.records import base, package, proven
from mlstack.records.layout import Layout

FAST = ("--set", "gates={}", "--precision", "fp32")


@pytest.fixture(scope="module")
def project(trained_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose package 1 is live."""
    root = copy_project(trained_once, tmp_path_factory.mktemp("live"))
    done = mlstack(root, "export", *FAST, "--quiet")
    assert done.code == 0, done.err
    base.write(root / "models/my_project/live.json", package.Live(live=1))
    return root


@pytest.fixture
def copy(project: Path, tmp_path: Path) -> Path:
    return shutil.copytree(project, tmp_path / "copy")


@pytest.mark.slow
def test_what_was_exported_or_verified_here_is_known_to_the_server(copy: Path) -> None:
    folder, made = Layout(copy).proven, copy / "models/my_project/1"
    exported = proven.is_proven(folder, made)
    shutil.rmtree(folder)

    done = mlstack(copy, "export", "verify", "my_project/1")

    assert done.code == 0, done.err
    assert exported
    assert proven.is_proven(folder, made)


@pytest.mark.slow
@pytest.mark.parametrize("plant", [fatal, fatal_for_two])
def test_a_live_package_that_kills_its_process_is_named_and_keeps_no_new_one_out(
    copy: Path, plant: Callable[[onnx.ModelProto], None]
) -> None:
    planted._in_graph(copy / "models/my_project/1", plant)

    verified = mlstack(copy, "export", "verify", "my_project/1")
    done = mlstack(copy, "export", *FAST, "--json")

    assert verified.code == 4
    assert "SIGFPE" in verified.err
    assert done.code == 0, done.out + done.err
    (gate,) = [gate for gate in done.json["gates"] if gate["name"] == "no worse than live"]
    assert "package 1 is live and broken" in gate["detail"]
    assert "SIGFPE" in gate["detail"]
    assert "mlstack serve promote N" in gate["detail"]
    assert not proven.is_proven(Layout(copy).proven, copy / "models/my_project/1")


@pytest.mark.slow
def test_a_live_package_that_was_thought_to_run_is_named_too(copy: Path) -> None:
    planted._in_graph(copy / "models/my_project/1", fatal_for_two)
    proven.keep(Layout(copy).proven, copy / "models/my_project/1")

    done = mlstack(copy, "export", *FAST, "--json")

    assert done.code == 0, done.out + done.err
    (gate,) = [gate for gate in done.json["gates"] if gate["name"] == "no worse than live"]
    assert "package 1 is live and broken" in gate["detail"]
    assert "SIGFPE" in gate["detail"]


@pytest.mark.slow
def test_a_live_package_that_nobody_opened_here_is_opened_and_compared_with(copy: Path) -> None:
    shutil.rmtree(Layout(copy).proven)

    done = mlstack(copy, "export", *FAST, "--json")

    assert done.code == 0, done.out + done.err
    (gate,) = [gate for gate in done.json["gates"] if gate["name"] == "no worse than live"]
    assert "0 lost, 0 gained" in gate["detail"]
    assert done.json["live"] == 1
    assert proven.is_proven(Layout(copy).proven, copy / "models/my_project/1")


def test_a_live_package_that_is_gone_is_told_with_what_to_type(copy: Path) -> None:
    base.write(copy / "models/my_project/live.json", package.Live(live=9))

    done = mlstack(copy, "export", *FAST)

    assert done.code == 3
    assert "names package 9, which is not there" in done.err
    assert "hint: type `mlstack serve promote 1`" in done.err
