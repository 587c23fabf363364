"""A disk that becomes full while a run writes: nothing half stays, and the run goes on after it."""

import json
import os
import subprocess
import sys

import pytest
from faulty import mlstack
from projects import make_project

from mlstack.records.run import read_events

APPEND = """
import resource, sys
from pathlib import Path
from mlstack import files
from mlstack.errors import MachineError
resource.setrlimit(resource.RLIMIT_FSIZE, (250, 250))
for number in range(9):
    try:
        files.append_line(Path(sys.argv[1]), b"%d" % number * 60)
    except MachineError as full:
        print(number, full.problem)
"""


def test_a_line_for_which_there_is_no_room_leaves_nothing_of_itself(tmp_path):
    file = tmp_path / "events.jsonl"

    done = subprocess.run(
        [sys.executable, "-c", APPEND, str(file)], capture_output=True, text=True, check=True
    )

    assert file.read_bytes().split(b"\n") == [b"0" * 60, b"1" * 60, b"2" * 60, b"3" * 60, b""]
    assert [line[0] for line in done.stdout.splitlines()] == ["4", "5", "6", "7", "8"]


def with_files_up_to(kilobytes, folder, *words):
    """Type a command whose files cannot grow further: its writes fail as on a full disk."""
    script = f'ulimit -f {kilobytes}; trap "" XFSZ; exec "$@"'
    command = ["bash", "-c", script, "-", sys.executable, "-m", "mlstack", *words]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project whose checkpoints are larger than all else that a run writes."""
    root = make_project(tmp_path_factory.mktemp("full") / "demo", images=60)
    wide = root / "mlstack.yaml"
    wide.write_text(wide.read_text().replace("width: 16", "width: 64"))
    subprocess.run(["git", "commit", "-qam", "wider"], cwd=root, check=True)
    return root


@pytest.mark.slow
def test_a_checkpoint_for_which_there_is_no_room_ends_the_run_with_6_and_it_goes_on(project):
    fast = ("--epochs", "2", "--set", "data.checks.min_per_class=0", "--no-check")

    full = with_files_up_to(60, project, "train", *fast)
    (folder,) = (project / ".mlstack" / "runs").glob("2*")
    left = [path.name for path in (folder / "checkpoints").iterdir()]
    gone_on = mlstack(project, "train", "--resume", "--json")

    assert full.returncode == 6, full.stderr
    assert "ckpt" in full.stderr and "File too large" in full.stderr
    assert "ulimit -f" in full.stderr
    assert left == []
    assert read_events(folder)  # every line is whole
    assert gone_on.returncode == 0, gone_on.stderr
    assert json.loads(gone_on.stdout)["state"] == "finished"


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 3 MB of its own, where this machine lets us mount one."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a disk that is small enough to fill")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.slow
def test_a_disk_that_others_fill_ends_the_run_with_6_and_it_goes_on_when_there_is_room(
    small_disk,
):
    root = make_project(small_disk / "demo", images=60)
    filling = small_disk / "filling"
    with filling.open("wb") as stream:
        free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        stream.write(bytes(free - (90 << 10)))

    fast = ("--epochs", "2", "--set", "data.checks.min_per_class=0", "--no-check")
    full = mlstack(root, "train", *fast)
    filling.unlink()
    listed = json.loads(mlstack(root, "train", "ls", "--json").stdout)["runs"]
    gone_on = mlstack(root, "train", "--resume", "--quiet")

    assert full.returncode == 6, full.stderr
    assert "full" in full.stderr
    assert [row["state"] for row in listed] in (["failed"], ["stopped"])  # and not damaged
    assert gone_on.returncode == 0, gone_on.stderr


@pytest.mark.parametrize("words", [("status",), ("version", "diff"), ("version", "check")])
def test_who_only_looks_needs_no_room_on_the_disk(project, words):
    state = project / ".mlstack"
    for kept in [state / "known.json", *(state / "index").glob("*.idx")]:
        kept.unlink(missing_ok=True)  # as if settings and data had changed: both are remembered

    looked = with_files_up_to(0, project, *words)

    assert looked.returncode == 0, looked.stderr
