"""Packs and chunks under kill -9: what lies there is a whole version, and the next one goes on."""

import json
import shutil
import subprocess

import pytest
from test_faults_version import Killer
from versioned import assert_whole, change, content, make_versions, stock, typed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    return make_versions(tmp_path_factory.mktemp("versions") / "project one", files=300)


@pytest.fixture(params=["packs", "chunks"])
def project(versions, tmp_path, request):
    """A project of two versions as files and two in the layout."""
    root = tmp_path / "project one"
    shutil.copytree(versions, root)
    (root / "mlstack.local.yaml").write_text(f"versioning: {{layout: {request.param}}}\n")
    typed(root, "version", "snapshot", "-m", "three")
    change(root, 3)
    typed(root, "version", "snapshot", "-m", "four")
    return root


def test_a_killed_snapshot_loses_nothing_and_goes_on(project):
    killer = Killer(project, 17)
    seed = 200
    while not killer.is_done:
        seed += 1
        change(project, seed)
        before = content(project)

        killer.strike("version", "snapshot", "-m", "killed")

        assert content(project) == before
        assert_whole(project / ".dvc" / "cache")
    typed(project, "version", "snapshot", "-m", "whole")

    assert content(project) == before
    assert json.loads(stock(project, "status", "--json")) == {}
    shutil.rmtree(project / "data" / "set")
    typed(project, "version", "checkout", "HEAD")
    assert content(project) == before


def test_a_killed_checkout_is_mended_by_the_next_one_whichever_layout_is_wanted(project):
    four = content(project)
    typed(project, "version", "checkout", "HEAD~2")  # as files
    two = content(project)
    typed(project, "version", "checkout", "HEAD~1")
    wanted = {"HEAD": four, "HEAD~1": two, "HEAD~2": two}
    killer = Killer(project, 18)
    turn = 0
    while not killer.is_done:
        revision = list(wanted)[turn % 3]
        turn += 1
        killer.strike("version", "checkout", revision)
        assert_whole(project / ".dvc" / "cache")

        typed(project, "version", "checkout", revision)

        assert content(project) == wanted[revision]
        assert json.loads(stock(project, "status", "--json")) == {}


def test_a_killed_pull_goes_on_and_ends_with_the_same_files(project):
    typed(project, "version", "push")
    clone = project / "clone"
    subprocess.run(["git", "clone", "-q", str(project), str(clone)], check=True)
    (clone / "remote").symlink_to(project / "remote")
    killer = Killer(clone, 19)
    while not killer.is_done:
        if not killer.strike("version", "pull"):
            assert content(clone) == content(project)
            shutil.rmtree(clone / "data" / "set")
            shutil.rmtree(clone / ".dvc" / "cache")
    typed(clone, "version", "pull")

    assert content(clone) == content(project)
    assert json.loads(stock(clone, "status", "--json")) == {}
