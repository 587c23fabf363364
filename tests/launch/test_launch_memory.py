"""The memory of a process that is in groups with limits; the groups are files."""

from pathlib import Path

import psutil
import pytest

from mlstack.launch.memory import memory

MIB = 1 << 20


@pytest.fixture
def own(tmp_path):
    return tmp_path / "cgroup"


def lay_out(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


def test_without_a_limit_it_is_the_machines(tmp_path, own):
    own.write_text("0::/user.slice\n")
    lay_out(tmp_path / "user.slice", memory__max="max", memory__current=7)

    for found in (memory(own, tmp_path), memory(tmp_path / "not-here", tmp_path)):
        assert (found.total, found.is_limited) == (psutil.virtual_memory().total, False)


def test_the_smallest_limit_counts_and_what_is_kept_of_files_is_free(tmp_path, own):
    own.write_text("0::/job_7/step_0\n")
    lay_out(tmp_path / "job_7", memory__max=100 * MIB, memory__current=60 * MIB)
    lay_out(tmp_path / "job_7", memory__stat=f"anon 5\ninactive_file {20 * MIB}")
    lay_out(tmp_path / "job_7" / "step_0", memory__max=200 * MIB, memory__current=60 * MIB)

    found = memory(own, tmp_path)

    assert (found.total, found.free, found.is_limited) == (100 * MIB, 60 * MIB, True)


def test_the_first_version_is_read_too_from_inside_of_a_container(tmp_path, own):
    own.write_text("9:name=systemd:/docker/abc\n4:cpu,memory:/docker/abc\n0::/\n")
    root = tmp_path / "memory"  # as a container sees it: its own group, and not the way to it
    lay_out(root, memory__limit_in_bytes=50 * MIB, memory__usage_in_bytes=10 * MIB)

    found = memory(own, tmp_path)

    assert (found.total, found.free) == (50 * MIB, 40 * MIB)


def test_a_limit_that_is_used_up_leaves_nothing(tmp_path, own):
    own.write_text("0::/\n")
    lay_out(tmp_path, memory__max=10 * MIB, memory__current=11 * MIB)

    assert memory(own, tmp_path).free == 0
