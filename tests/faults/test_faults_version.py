"""Data versions under kill -9, full disks, lost remotes and busy writers; stock DVC is the judge.

`make test` kills each command a few times; `make soak` does it 50 times (`MLSTACK_KILLS`).
"""

import fcntl
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from faulty import failure, mlstack
from versioned import assert_whole, change, content, make_versions, names, stock, typed

from mlstack.records import data_folder
from mlstack.records.dvc_config import read_config
from mlstack.version import guard, intake

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("MLSTACK_KILLS", "3"))


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    """A project with two versions of 600 files, and a folder for its remote."""
    return make_versions(tmp_path_factory.mktemp("versions") / "project one")


@pytest.fixture(params=["copy", "hardlink"])
def project(versions, tmp_path, request):
    """A copy of it that may be broken, with files that share their bytes with the cache or not."""
    root = tmp_path / "project one"
    shutil.copytree(versions, root)
    (root / ".dvc" / "config.local").write_text(f"[cache]\n    type = {request.param}\n")
    return root


class Killer:
    """Kills a command at random moments of its life until it was killed as often as asked for."""

    def __init__(self, root, seed):
        self.root = root
        self.chance = random.Random(seed)
        self.took_s = {}  # by command: how long it takes when nobody kills it
        self.hits = 0

    @property
    def is_done(self):
        return self.hits >= KILLS

    def strike(self, *words):
        """Kill it once; say whether it was still alive. Its first run is whole, to be measured."""
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "mlstack", *words],
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        took_s = self.took_s.get(words)
        try:
            process.wait(self.chance.uniform(0.05, took_s) if took_s else 60)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        time.sleep(0.05)
        if process.returncode == -signal.SIGKILL:
            self.hits += 1
            return True
        if process.returncode:  # a git that the last one left may still be at work
            typed(self.root, *words)
        else:
            self.took_s[words] = time.monotonic() - began
        return False


def test_a_killed_snapshot_loses_nothing_and_goes_on(project):
    killer = Killer(project, 7)
    seed = 100
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
    typed(project, "version", "checkout", "HEAD~1")
    assert_whole(project / ".dvc" / "cache")
    left = (project / ".dvc" / "cache" / "files").glob(".mlstack-*")
    assert not [path for path in left if any(path.iterdir())]


def test_a_killed_checkout_leaves_nothing_that_the_next_one_cannot_mend(project):
    two = content(project)
    typed(project, "version", "checkout", "HEAD~1")
    one = content(project)
    killer = Killer(project, 8)
    turn = 0
    while not killer.is_done:
        revision, wanted = (("HEAD", two), ("HEAD~1", one))[turn % 2]
        turn += 1
        killer.strike("version", "checkout", revision)
        assert_whole(project / ".dvc" / "cache")
        there = {
            item for item in content(project).items() if not guard.LEFTOVER.fullmatch(item[0].name)
        }
        assert there <= set(one.items()) | set(two.items())

        typed(project, "version", "checkout", revision)

        assert content(project) == wanted
    assert json.loads(stock(project, "status", "--json")) == {}


def test_a_killed_push_leaves_a_remote_that_never_names_what_it_lacks(project):
    remote = project / "remote"
    killer = Killer(project, 9)
    while not killer.is_done:
        if not killer.strike("version", "push"):
            shutil.rmtree(remote)  # all of it again
            remote.mkdir()
        assert_whole(remote)
    typed(project, "version", "push")

    assert_whole(remote)
    clone = project / "clone"
    subprocess.run(["git", "clone", "-q", str(project), str(clone)], check=True)
    stock(clone, "remote", "add", "-d", "store", str(remote))
    stock(clone, "pull", "-q")
    assert content(clone) == content(project)


def test_a_killed_pull_goes_on_and_ends_with_the_same_files(project):
    typed(project, "version", "push")
    clone = project / "clone"
    subprocess.run(["git", "clone", "-q", str(project), str(clone)], check=True)
    (clone / "remote").symlink_to(project / "remote")
    killer = Killer(clone, 10)
    while not killer.is_done:
        if not killer.strike("version", "pull"):
            assert content(clone) == content(project)
            shutil.rmtree(clone / "data" / "set")  # all of it again
            shutil.rmtree(clone / ".dvc" / "cache")
        elif (clone / ".dvc" / "cache").is_dir():
            assert_whole(clone / ".dvc" / "cache")
    typed(clone, "version", "pull")

    assert content(clone) == content(project)
    assert json.loads(stock(clone, "status", "--json")) == {}


def test_a_killed_gc_leaves_every_object_in_the_cache_or_the_trash(project):
    cache, trash = project / ".dvc" / "cache", project / ".dvc" / "cache" / "trash"
    everything = names(cache / "files" / "md5")
    killer = Killer(project, 11)
    turns = (("--only-tips", "--yes"), ("--restore",))
    turn = 0
    while not killer.is_done:
        if not killer.strike("version", "gc", *turns[turn % 2]):
            turn += 1  # the other way

        assert names(cache / "files" / "md5") | names(trash) == everything
        assert_whole(cache)
        assert json.loads(stock(project, "status", "--json")) == {}
    typed(project, "version", "gc", "--restore")

    assert names(cache / "files" / "md5") == everything
    assert_whole(cache)
    typed(project, "version", "checkout", "HEAD~1")


def test_a_disk_that_fills_up_ends_with_6_and_nothing_half_there(project):
    change(project, 5)
    script = 'ulimit -f 1; trap "" XFSZ; exec "$@"'  # a write past 1 kB fails, as on a full disk
    command = ["bash", "-c", script, "-", sys.executable, "-m", "mlstack"]

    done = subprocess.run(
        [*command, "version", "push", "--json"],
        cwd=project, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip

    assert failure(done)["code"] == 6
    assert_whole(project / "remote")
    typed(project, "version", "push")
    assert_whole(project / "remote")


def test_a_remote_that_is_gone_is_said_and_tried_again_later(project):
    shutil.rmtree(project / "remote")
    (project / "remote").write_text("not a folder")
    refused = mlstack(project, "version", "push", "--json")
    (project / "remote").unlink()
    away = mlstack(project, "--help")

    assert failure(refused)["code"] == 2
    assert away.returncode == 0
    assert typed(project, "version", "push").returncode == 0  # made anew: it is a folder's name


def test_the_second_of_two_commands_waits_its_turn(project):
    change(project, 6)
    first = subprocess.Popen(
        [sys.executable, "-m", "mlstack", "version", "snapshot", "-m", "a"],
        cwd=project, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    second = mlstack(project, "version", "snapshot", "-m", "b", "--json")
    first.wait()

    assert second.returncode in (0, 75)
    if second.returncode == 75:
        assert "busy" in failure(second)["problem"]
    typed(project, "version", "snapshot", "-m", "c")
    assert json.loads(stock(project, "status", "--json")) == {}


def test_a_dvc_at_work_keeps_mlstack_out(project):
    lock = project / ".dvc" / "tmp" / "lock"
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = mlstack(project, "version", "checkout", "HEAD~1", "--json")

    assert failure(done)["code"] == 75


def test_a_file_overwritten_through_its_link_is_noticed_and_its_old_content_fetched(project):
    typed(project, "version", "push")
    typed(project, "version", "checkout", "HEAD~1")
    typed(project, "version", "checkout", "HEAD")
    path = project / "data" / "set" / "part 1" / "日 1.bin"
    path = path if path.is_file() else sorted((project / "data" / "set").rglob("日*.bin"))[0]
    old = path.read_bytes()
    path.chmod(0o644)
    with path.open("r+b") as stream:  # what an editor without care does
        stream.write(b"overwritten")

    typed(project, "version", "snapshot", "-m", "overwritten")

    assert_whole_after_fetch(project)
    typed(project, "version", "checkout", "HEAD~1")
    assert path.read_bytes() == old


def assert_whole_after_fetch(project):
    """The damaged object is gone rather than wrong, and the remote has the true one."""
    for path in (project / ".dvc" / "cache" / "files" / "md5").rglob("*"):
        if path.is_file():
            digest = hashlib.md5(path.read_bytes()).hexdigest()
            assert path.parent.name + path.name.removesuffix(".dir") == digest
    typed(project, "version", "pull", "HEAD~1")


def test_a_snapshot_cut_short_takes_no_object_away_whose_file_is_unchanged(project):
    source = project / "data" / "set"
    shutil.rmtree(source)
    typed(project, "version", "checkout", "HEAD")
    for path in source.rglob("*.bin"):  # as a killed snapshot leaves it: another time, same content
        path.chmod(0o400)
        path.chmod(0o444)

    seen = data_folder.look(source, project / ".mlstack" / "index" / "data~set.idx")
    noted = project / ".mlstack" / "index" / "data~set.kept"
    keeping = intake.keep(seen, read_config(project), noted)
    next(keeping)
    keeping.close()

    assert len(seen.unknown) > 500
    assert_whole(project / ".dvc" / "cache")


@pytest.mark.parametrize("has_lock", [True, False])
def test_what_a_killed_cleaning_left_beside_the_cache_is_cleaned_by_the_next(project, has_lock):
    beside = project / ".dvc" / "cache" / "files" / ".mlstack-0123abcd"
    (beside / "ab").mkdir(parents=True)
    (beside / "ab" / "cdef").write_bytes(b"half")
    young = beside.with_name(".mlstack-young")
    young.mkdir()
    if has_lock:
        (beside / "lock").touch()
    else:
        long_ago = time.time() - 3600
        os.utime(beside, (long_ago, long_ago))
    change(project, 8)

    typed(project, "version", "snapshot", "-m", "three")

    assert not beside.exists()
    assert young.exists()  # its process may be about to begin
