"""Data versions on full disks, through odd names, links, other clocks, and several at once."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from faulty import failure, mlstack
from versioned import assert_whole, change, content, make_versions, names, stock, typed

pytestmark = pytest.mark.slow

SET = Path("data") / "set"
DAY_S = 86_400
ODD_NAMES = [
    "line\nbreak.bin",
    "tab\there.bin",
    "two  spaces .bin",
    " before and after ",
    "-rf",
    "quote ' and \" and \\.bin",
    "percent %41 $HOME `id`.bin",
    "日本語/ü/é composed.bin",
    "日本語/ü/é decomposed.bin",
    "emoji 🦦.bin",
    "a/b.bin",
    "a b/c.bin",
    "a.b/c.bin",
]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make_versions(tmp_path_factory.mktemp("small") / "project one", files=60)


@pytest.fixture
def project(small, tmp_path):
    return Path(shutil.copytree(small, tmp_path / "project one", symlinks=True))


@pytest.fixture
def clone(project):
    """A clone with the same remote, without the data."""
    return make_clone(project, project / "clone")


def make_clone(project, folder):
    subprocess.run(["git", "clone", "-q", str(project), str(folder)], check=True)
    (folder / "remote").symlink_to(project / "remote")
    return folder


def on_full_disk(folder, *words):
    """Type a command whose files cannot grow past 1 kB: its writes fail as on a full disk."""
    script = 'ulimit -f 1; trap "" XFSZ; exec "$@"'
    command = ["bash", "-c", script, "-", sys.executable, "-m", "mlstack", *words, "--json"]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 400 kB of its own, where this machine lets us mount one."""
    place = tmp_path / "small disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a disk that is small enough to fill")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def in_agreement(root):
    return json.loads(stock(root, "status", "--json")) == {}


def test_a_full_disk_stops_a_snapshot_with_6_and_the_version_before_stays(project):
    pointer = (project / "data" / "set.dvc").read_text()
    change(project, 5)
    before = content(project)

    done = on_full_disk(project, "version", "snapshot", "-m", "three")

    assert failure(done)["code"] == 6
    assert content(project) == before
    assert (project / "data" / "set.dvc").read_text() == pointer
    assert_whole(project / ".dvc" / "cache")
    typed(project, "version", "snapshot", "-m", "three")
    assert in_agreement(project)


def test_a_full_disk_stops_a_checkout_with_6_and_the_next_one_goes_on(project):
    two = content(project)

    done = on_full_disk(project, "version", "checkout", "HEAD~1")

    assert failure(done)["code"] == 6
    assert not list((project / SET).rglob("*.tmp"))
    typed(project, "version", "checkout", "HEAD~1")
    assert in_agreement(project)
    typed(project, "version", "checkout", "HEAD")
    assert content(project) == two


def test_a_full_disk_stops_a_pull_with_6_and_the_next_one_goes_on(project, clone):
    typed(project, "version", "push")

    done = on_full_disk(clone, "version", "pull")

    assert failure(done)["code"] == 6
    assert_whole(clone / ".dvc" / "cache")
    typed(clone, "version", "pull")
    assert content(clone) == content(project)


def test_a_real_disk_that_fills_up_under_a_snapshot_keeps_what_is_whole(project, small_disk):
    stock(project, "cache", "dir", "--local", str(small_disk / "cache"))
    shutil.move(project / ".dvc" / "cache", small_disk / "cache")
    for number in range(300):
        (project / SET / f"more {number}.bin").write_bytes(os.urandom(1500))

    done = mlstack(project, "version", "snapshot", "-m", "too much", "--json")

    said = failure(done)
    assert (said["code"], "disk is full" in said["problem"]) == (6, True)
    assert_whole(small_disk / "cache")
    assert not list((small_disk / "cache" / "files").glob(".mlstack-*"))
    typed(project, "version", "checkout", "HEAD", "--force")
    assert in_agreement(project)


def test_a_real_disk_that_fills_up_under_a_push_keeps_what_is_whole(project, small_disk):
    for number in range(300):
        (project / SET / f"more {number}.bin").write_bytes(os.urandom(1500))
    typed(project, "version", "snapshot", "-m", "much")
    where = ["--set", f"versioning.remote={small_disk / 'remote'}"]

    done = mlstack(project, "version", "push", "--json", *where)

    said = failure(done)
    assert (said["code"], "disk is full" in said["problem"]) == (6, True)
    assert not list((small_disk / "remote").rglob("*.dir"))
    assert_whole(small_disk / "remote")
    assert not list((small_disk / "remote" / "files").glob(".mlstack-*"))


def test_a_real_disk_that_fills_up_under_a_pull_keeps_what_is_whole(project, small_disk):
    for number in range(300):
        (project / SET / f"more {number}.bin").write_bytes(os.urandom(1500))
    typed(project, "version", "snapshot", "-m", "much")
    typed(project, "version", "push")
    clone = make_clone(project, project / "clone")
    stock(clone, "cache", "dir", "--local", str(small_disk / "cache"))

    done = mlstack(clone, "version", "pull", "--json")

    said = failure(done)
    assert (said["code"], "disk is full" in said["problem"]) == (6, True)
    assert_whole(small_disk / "cache")
    assert not (clone / SET).exists()


@pytest.mark.parametrize("direction", ["push", "pull"])
def test_a_folder_remote_that_fails_half_way_is_75_and_the_same_command_goes_on(
    project, clone, direction
):
    typed(project, "version", "push")
    here = project if direction == "push" else clone
    store = project / "remote" / "files" / "md5"
    broken = sorted(store.iterdir())[len(list(store.iterdir())) // 2]
    if direction == "push":
        shutil.rmtree(store)
        store.mkdir()
    else:
        broken.rename(store / "aside")
    broken.write_text("no folder, as on a disk that went away")

    done = mlstack(here, "version", direction, "--json")

    said = failure(done)
    assert said["code"] == 75
    assert str(project / "remote") in said["problem"]
    assert not list((project if direction == "pull" else store).glob("**/.mlstack-*"))
    assert_whole(project / "remote") if direction == "push" else None
    broken.unlink()
    if direction == "pull":
        (store / "aside").rename(broken)
    typed(here, "version", direction)
    assert_whole(project / "remote")
    assert content(here) == content(project)


def test_an_object_that_cannot_be_read_from_a_folder_remote_is_named(project, clone):
    typed(project, "version", "push")
    victim = next(p for p in (project / "remote").rglob("*") if p.is_file() and p.suffix != ".dir")
    victim.unlink()
    victim.mkdir()

    done = mlstack(clone, "version", "pull", "--json")

    said = failure(done)
    assert said["code"] == 75
    assert str(victim) in said["problem"]


@pytest.mark.parametrize("links", ["copy", "hardlink"])
def test_odd_names_go_everywhere_and_come_back(project, links):
    (project / ".dvc" / "config.local").write_text(f"[cache]\n    type = {links}\n")
    for number, name in enumerate(ODD_NAMES):
        path = project / SET / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"odd {number}".encode())

    typed(project, "version", "snapshot", "-m", "odd")
    diff = mlstack(project, "version", "diff", "HEAD~1", "HEAD", "--json")
    typed(project, "version", "push")
    typed(project, "version", "verify")
    clone = make_clone(project, project / "clone")
    typed(clone, "version", "pull")
    wanted = content(project)
    typed(project, "version", "checkout", "HEAD~1")
    typed(project, "version", "checkout", "HEAD")

    assert json.loads(diff.stdout)["ok"]
    assert content(clone) == content(project) == wanted
    assert set(map(Path, ODD_NAMES)) <= set(wanted)
    assert in_agreement(project)
    assert in_agreement(clone)


def test_stock_dvc_pulls_odd_names_that_mlstack_pushed(project):
    for name in ODD_NAMES:
        path = project / SET / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode(errors="surrogateescape"))
    typed(project, "version", "snapshot", "-m", "odd")
    typed(project, "version", "push")
    clone = make_clone(project, project / "clone")
    stock(clone, "remote", "add", "-d", "--local", "store", str(project / "remote"))

    stock(clone, "pull", "-q")

    assert content(clone) == content(project)


def test_a_name_that_is_no_text_is_refused_by_a_snapshot_and_told_by_a_diff(project):
    """Stock DVC cannot add it either."""
    (project / SET / os.fsdecode(b"no text \xff.bin")).write_bytes(b"odd")

    done = mlstack(project, "version", "snapshot", "-m", "odd", "--json")
    diff = mlstack(project, "version", "diff", "--json")

    said = failure(done)
    assert said["code"] == 3
    assert "is no text" in said["problem"]
    assert json.loads(diff.stdout)["ok"]
    assert "no text \\udcff.bin" in diff.stdout


def test_a_link_to_a_file_is_kept_by_its_content_and_its_target_is_never_touched(project):
    outside = project.parent / "outside.bin"
    outside.write_bytes(b"outside")
    link = project / SET / "link.bin"
    link.symlink_to(outside)

    typed(project, "version", "snapshot", "-m", "with a link")
    kept = in_agreement(project)
    typed(project, "version", "checkout", "HEAD~1")
    gone = not os.path.lexists(link)
    typed(project, "version", "checkout", "HEAD")

    assert kept
    assert gone
    assert link.read_bytes() == outside.read_bytes() == b"outside"
    assert in_agreement(project)


@pytest.mark.parametrize("kind", ["folder", "nothing", "itself"])
def test_a_link_that_dvc_would_not_follow_is_refused_by_name(project, kind):
    target = {"folder": project.parent, "nothing": project / "nothing", "itself": "link"}[kind]
    (project / SET / "link").symlink_to(target)

    done = mlstack(project, "version", "snapshot", "-m", "x", "--json")

    said = failure(done)
    assert said["code"] == 3
    assert "link` is a link to" in said["problem"]


def test_a_link_where_a_file_was_is_replaced_by_the_checkout_not_followed(project):
    outside = project.parent / "outside.bin"
    outside.write_bytes(b"precious")
    path = next((project / SET).rglob("日*.bin"))
    old = path.read_bytes()
    path.unlink()
    path.symlink_to(outside)

    typed(project, "version", "checkout", "HEAD", "--force")

    assert path.read_bytes() == old
    assert not path.is_symlink()
    assert outside.read_bytes() == b"precious"


def test_files_from_the_future_are_seen_when_they_change(project):
    ahead = time.time() + DAY_S
    for path in (project / SET).rglob("*.bin"):
        os.utime(path, (ahead, ahead))
    typed(project, "version", "snapshot", "-m", "three", "--json")
    path = next((project / SET).rglob("日*.bin"))
    size = path.stat().st_size
    path.unlink()
    path.write_bytes(os.urandom(size))
    os.utime(path, (ahead, ahead))  # the clock stands where it stood

    done = typed(project, "version", "snapshot", "-m", "four", "--json")

    assert json.loads(done.stdout)["changed"] == 1
    assert in_agreement(project)


def test_an_index_from_the_future_hides_no_change(project):
    """As after a clock that ran a day ahead was set back."""
    ahead = time.time() + DAY_S
    for path in (project / ".mlstack").rglob("*"):
        os.utime(path, (ahead, ahead))
    path = next((project / SET).rglob("日*.bin"))
    path.chmod(0o644)
    was = path.stat()
    path.write_bytes(os.urandom(was.st_size))
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))

    done = typed(project, "version", "snapshot", "-m", "three", "--json")

    assert json.loads(done.stdout)["changed"] == 1
    assert in_agreement(project)


def test_what_a_killed_command_left_is_no_data_even_when_the_clock_was_set_back_since(project):
    left = project / SET / ".日 1.bin.0123abcd.tmp"
    left.write_bytes(b"half a file")
    ahead = time.time() + 3600
    os.utime(left, (ahead, ahead))

    typed(project, "version", "snapshot", "-m", "three")

    assert not left.exists()


def test_trash_from_the_future_waits_and_comes_back(project):
    everything = names(project / ".dvc" / "cache" / "files" / "md5")
    typed(project, "version", "gc", "--only-tips", "--yes")
    trash = project / ".dvc" / "cache" / "trash"
    (batch,) = trash.iterdir()
    batch.rename(trash / "29991231T235959Z")

    typed(project, "version", "gc", "--empty", "--grace", "0")
    left = names(trash)
    typed(project, "version", "gc", "--restore")

    assert left
    assert names(project / ".dvc" / "cache" / "files" / "md5") == everything


@pytest.mark.parametrize("links", ["copy", "hardlink"])
def test_a_file_that_is_written_during_the_snapshot_is_never_kept_half(project, links):
    (project / ".dvc" / "config.local").write_text(f"[cache]\n    type = {links}\n")
    pointer = (project / "data" / "set.dvc").read_text()
    path = project / SET / "growing.bin"
    path.write_bytes(bytes(32 << 20))
    stop = threading.Event()

    def grow():
        with path.open("ab", buffering=0) as stream:
            while not stop.wait(0.001):
                stream.write(b"more")

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        done = mlstack(project, "version", "snapshot", "-m", "three", "--json")
    finally:
        stop.set()
        writer.join()

    said = failure(done)
    assert said["code"] == 3
    assert "growing.bin` changes while it is read" in said["problem"]
    assert (project / "data" / "set.dvc").read_text() == pointer
    assert_whole(project / ".dvc" / "cache")
    typed(project, "version", "snapshot", "-m", "three")
    assert in_agreement(project)


COMMANDS = [
    ("snapshot", "-m", "both"),
    ("checkout", "HEAD~1", "--force"),
    ("push",),
    ("pull",),
    ("gc", "--only-tips", "--yes"),
    ("verify",),
]


def test_all_commands_at_once_in_one_project_end_well_or_with_75(project):
    typed(project, "version", "push")
    change(project, 6)
    typed(project, "version", "snapshot", "-m", "three")
    everything = names(project / ".dvc" / "cache" / "files" / "md5")

    running = [
        subprocess.Popen(
            [sys.executable, "-m", "mlstack", "version", *words, "--json"],
            cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for words in COMMANDS
    ]  # fmt: skip
    said = [process.communicate(timeout=120) for process in running]

    assert {process.returncode for process in running} <= {0, 75}, said
    cache = project / ".dvc" / "cache"
    assert everything <= names(cache / "files" / "md5") | names(cache / "trash")
    assert_whole(cache)
    assert_whole(project / "remote")
    typed(project, "version", "checkout", "HEAD")
    assert in_agreement(project)


def test_two_clones_push_to_one_folder_at_once(project, tmp_path):
    clones = [Path(shutil.copytree(project, tmp_path / name)) for name in ("a", "b")]
    for number, clone in enumerate(clones):
        change(clone, number + 20)
        typed(clone, "version", "snapshot", "-m", "mine")
    where = ["--set", f"versioning.remote={tmp_path / 'shared'}"]

    running = [
        subprocess.Popen([sys.executable, "-m", "mlstack", "version", "push", *where], cwd=clone)
        for clone in clones
    ]

    assert [process.wait(timeout=60) for process in running] == [0, 0]
    assert_whole(tmp_path / "shared")
    lists = [path for path in (tmp_path / "shared").rglob("*.dir")]
    assert len(lists) == 2


def test_two_clones_that_share_a_cache_pull_at_once(project, tmp_path):
    typed(project, "version", "push")
    clones = [make_clone(project, tmp_path / name) for name in ("a", "b")]
    for clone in clones:
        stock(clone, "cache", "dir", "--local", str(tmp_path / "cache"))

    running = [
        subprocess.Popen([sys.executable, "-m", "mlstack", "version", "pull"], cwd=clone)
        for clone in clones
    ]

    assert [process.wait(timeout=60) for process in running] == [0, 0]
    assert content(clones[0]) == content(clones[1]) == content(project)
    assert_whole(tmp_path / "cache")


def test_a_push_that_finds_damage_half_way_keeps_what_it_has_copied(project):
    objects = sorted(p for p in (project / ".dvc" / "cache" / "files").rglob("*") if p.is_file())
    current = json.loads((project / ".dvc/cache/files/md5" / list_of(project)).read_bytes())
    victim = max(current, key=lambda entry: entry["md5"])["md5"]  # copied in this order
    path = next(path for path in objects if path.parent.name + path.name == victim)
    path.chmod(0o644)
    path.write_bytes(b"damaged")

    done = mlstack(project, "version", "push", "--json")

    said = failure(done)
    assert (said["code"], victim in said["problem"]) == (3, True)
    kept = names(project / "remote")
    assert kept == {entry["md5"] for entry in current} - {victim}
    assert_whole(project / "remote")


def list_of(project):
    text = (project / "data" / "set.dvc").read_text()
    md5 = text.partition("md5: ")[2].split()[0]
    return f"{md5[:2]}/{md5[2:]}"
