"""What happens when the terminal, the pipe, the disk or git is not what a command hopes for."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from faulty import failure, mlstack, send
from PIL import Image
from projects import make_project


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """One project for all tests of this module; none changes its data."""
    return make_project(tmp_path_factory.mktemp("streams") / "pro ject é", images=60)


def no_large_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))


def test_a_closed_pipe_is_no_failure(here):
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {sys.executable} -m mlstack config show --all | true"],
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_spoils_nothing(here, closed):
    line = f"{sys.executable} -m mlstack status {closed}"

    done = subprocess.run(["bash", "-c", line], cwd=here, capture_output=True, check=False)

    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    assert not (here / ".mlstack" / "last-error.txt").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_full_disk_under_stdout_is_exit_6_without_a_traceback(here, options):
    with Path("/dev/full").open("w") as full:
        done = mlstack(
            here, "status", *options, capture_output=False, stdout=full, stderr=subprocess.PIPE
        )

    assert done.returncode == 6
    assert "Traceback" not in done.stderr


def test_a_file_that_cannot_grow_is_exit_6_and_the_old_one_stays(here):
    labels = here / "data" / "digits" / "labels.parquet"
    before = labels.read_bytes()
    (here / "labels.csv").write_text("path,label\nimages/0001.png,7\n")
    assert mlstack(here, "label", "import", "labels.csv").returncode == 0

    done = mlstack(here, "label", "export", "--json", preexec_fn=no_large_files)

    assert failure(done)["code"] == 6
    assert labels.read_bytes() == before
    assert [p.name for p in labels.parent.glob(".*")] == []


def test_init_on_a_full_disk_is_exit_6_and_leaves_nothing(tmp_path):
    done = mlstack(tmp_path, "init", "demo", "--json", preexec_fn=no_large_files)

    assert failure(done)["code"] == 6
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_is_told_and_is_exit_130(tmp_path):
    code, said = send(tmp_path, signal.SIGINT, 1.0, "init", "demo", "--json")

    assert code == 130
    assert json.loads(said)["error"]["code"] == 130
    assert list(tmp_path.iterdir()) == []


def test_sigterm_is_told_and_is_exit_143(tmp_path):
    code, said = send(tmp_path, signal.SIGTERM, 1.0, "init", "demo", "--json")

    assert code == 143
    assert json.loads(said)["error"]["code"] == 143
    assert list(tmp_path.iterdir()) == []


def test_without_git_the_message_says_so(here, tmp_path):
    (tmp_path / "bin").mkdir()

    done = mlstack(here, "version", "log", "--json", env={"PATH": str(tmp_path / "bin")})

    assert failure(done)["problem"] == "git is not installed"
    assert done.returncode == 6


def test_a_disk_that_git_finds_full_is_not_another_git(here):
    from mlstack.errors import MachineError
    from mlstack.launch.git import _refusal

    words = "fatal: sha1 file '.git/index.lock' write error. Out of diskspace"

    assert isinstance(_refusal("add", words), MachineError)


def test_in_a_folder_of_the_project_the_hint_is_where_to_go(here):
    done = mlstack(here / "data", "train", "ls", "--json")

    assert failure(done)["hint"] == f"cd '{here}'"
    assert done.returncode == 2


def test_ascii_terminals_and_forty_columns_are_enough(here):
    poor = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "COLUMNS": "40"}

    done = mlstack(here, "status", env=poor)

    assert (done.returncode, done.stderr) == (0, "")


def test_home_is_not_needed(here):
    bare = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    python = [sys.executable, "-m", "mlstack"]

    done = subprocess.run([*python, "status"], cwd=here, env=bare, capture_output=True, check=False)

    assert done.returncode == 0


def test_data_that_is_gone_comes_back_by_the_command_in_the_hint(tmp_path):
    project = make_project(tmp_path / "demo", images=60)
    assert mlstack(project, "version", "snapshot", "-m", "all").returncode == 0
    shutil.rmtree(project / "data" / "digits")

    refused = [
        failure(mlstack(project, *words, "--json"))
        for words in (("train",), ("version", "check"), ("label", "export"))
    ]
    back = mlstack(project, "version", "checkout", "HEAD")

    assert {error["code"] for error in refused} == {3}
    assert all("mlstack version checkout HEAD" in error["hint"] for error in refused)
    assert back.returncode == 0
    assert len(list((project / "data" / "digits" / "images").iterdir())) == 60


def test_a_huge_image_is_named_and_nothing_else_is_said(tmp_path):
    project = make_project(tmp_path / "demo", images=60)
    Image.new("1", (12_000, 12_000)).save(project / "data" / "digits" / "images" / "huge.png")

    done = mlstack(project, "version", "check")

    assert done.returncode == 3
    assert done.stderr.startswith("error: `images/huge.png`: the image has 12000 x 12000 pixels")
