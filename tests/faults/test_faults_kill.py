"""kill -9 in the middle of a command: nothing is half there, and the same command goes on."""

import shutil

import pytest
from faulty import kill, mlstack
from projects import make_project


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("kill") / "demo", images=300)


@pytest.fixture
def here(start, tmp_path):
    shutil.copytree(start, tmp_path / "demo")
    return tmp_path / "demo"


@pytest.mark.parametrize("after_s", [0.5, 0.8, 1.2])
def test_a_killed_init_leaves_no_project_and_the_next_one_cleans_up(tmp_path, after_s):
    kill(tmp_path, after_s, "init", "demo")
    assert not (tmp_path / "demo").exists() or (tmp_path / "demo" / ".git").is_dir()

    done = mlstack(tmp_path, "init", "other")

    assert done.returncode == 0
    assert not list(tmp_path.glob(".mlstack-init*"))


def test_a_killed_snapshot_is_finished_by_the_next_one(here):
    for after_s in (0.5, 0.7, 0.9):
        kill(here, after_s, "version", "snapshot", "-m", "all")
        assert mlstack(here, "status").returncode == 0

    done = mlstack(here, "version", "snapshot", "-m", "all")

    assert done.returncode == 0
    assert mlstack(here, "version", "verify").returncode == 0
    shutil.rmtree(here / "data" / "digits")
    assert mlstack(here, "version", "checkout", "HEAD").returncode == 0
    assert len(list((here / "data" / "digits" / "images").iterdir())) == 300


def test_a_killed_import_of_labels_has_all_or_none_of_them(here):
    rows = "".join(f"images/{number:04d}.png,{number % 10}\n" for number in range(300))
    (here / "labels.csv").write_text(f"path,label\n{rows}")
    counts = set()
    for after_s in (0.3, 0.35, 0.4):
        kill(here, after_s, "label", "import", "labels.csv")
        counts.add(mlstack(here, "label", "stats", "--quiet").stdout.strip())

    done = mlstack(here, "label", "import", "labels.csv")
    exported = mlstack(here, "label", "export", "--quiet")

    assert counts == {"300"}
    assert (done.returncode, exported.returncode) == (0, 0)
    assert mlstack(here, "label", "check").returncode == 0
