import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mlstack.records import data_folder, dvc


def test_checkout_brings_back_the_data_of_a_version_and_only_that(
    snapshotted, version, answer, dvc_status
) -> None:
    first = data_folder.hash_folder(snapshotted / "data" / "digits").md5
    (snapshotted / "data" / "digits" / "images" / "0000.png").unlink()
    answer("snapshot", "-m", "one fewer")
    code = (snapshotted / "mlstack.yaml").read_bytes()

    said = answer("checkout", "HEAD~1")

    assert said["md5"] == first
    assert not said["newest"]
    assert data_folder.hash_folder(snapshotted / "data" / "digits").md5 == first
    assert (snapshotted / "mlstack.yaml").read_bytes() == code
    assert "up to date" in dvc_status()
    assert answer("checkout", "HEAD")["newest"]
    assert version("checkout", "nowhere").returncode == 2


def test_checkout_refuses_to_destroy_what_no_snapshot_holds(snapshotted, version) -> None:
    mine = snapshotted / "data" / "digits" / "images" / "0000.png"
    mine.write_bytes(b"an hour of work")

    done = version("checkout", "HEAD")

    assert done.returncode == 3
    assert "images/0000.png" in done.stderr
    assert mine.read_bytes() == b"an hour of work"
    assert version("checkout", "HEAD", "--force").returncode == 0
    assert mine.read_bytes() != b"an hour of work"


def test_a_committed_pointer_without_a_cache_does_not_count_as_saved(project, version) -> None:
    done = version("checkout", "HEAD")

    assert done.returncode == 3
    assert (project / "data" / "digits" / "images" / "0000.png").is_file()


def test_what_a_killed_checkout_left_is_no_data(snapshotted, version, answer) -> None:
    images = snapshotted / "data" / "digits" / "images"
    for name in (".uAua5ybFz7IXrgNeZ_b6SA.tmp", ".labels.parquet.0a1b2c3d.tmp"):
        (images / name).write_bytes(b"half")
        os.utime(images / name, (1, 1))

    kept = answer("snapshot", "-m", "after the kill")
    (images / ".uAua5ybFz7IXrgNeZ_b6SA.tmp").write_bytes(b"half")
    again = version("checkout", "HEAD")

    assert kept["files"] == 301
    assert again.returncode == 0, again.stderr
    assert not list(images.glob(".*"))


@pytest.mark.parametrize("kind", ["a file", "a link to nowhere"])
def test_what_lies_in_the_place_of_the_folder_is_named_and_stays(
    snapshotted, version, kind
) -> None:
    place = snapshotted / "data" / "digits"
    shutil.rmtree(place)
    place.write_text("mine") if kind == "a file" else place.symlink_to(snapshotted / "nowhere")

    for words in (("checkout", "HEAD"), ("checkout", "HEAD", "--force"), ("pull",)):
        done = version(*words)
        assert done.returncode == 3
        assert f"`data/digits` is {kind}" in done.stderr

    assert place.is_symlink() or place.read_text() == "mine"


def test_push_and_pull_carry_a_version_to_another_clone(snapshotted, version, tmp_path) -> None:
    remote = ("--set", f"versioning.remote={tmp_path / 'store'}")
    clone = tmp_path / "clone"

    pushed = version("push", *remote)
    again = version("push", *remote)
    subprocess.run(["git", "clone", "-q", str(snapshotted), str(clone)], check=True)
    pulled = subprocess.run(
        [sys.executable, "-m", "mlstack", "version", "pull", *remote], cwd=clone, check=False
    )

    assert pushed.returncode == 0, pushed.stderr
    assert "nothing new" in again.stdout
    assert pulled.returncode == 0
    here, there = (data_folder.hash_folder(p / "data" / "digits").md5 for p in (snapshotted, clone))
    assert here == there


def test_pull_fetches_an_older_version_into_the_cache(
    snapshotted, version, answer, in_folder, tmp_path
) -> None:
    remote = ("--set", f"versioning.remote={tmp_path / 'store'}")
    (snapshotted / "data" / "digits" / "images" / "more.png").write_bytes(b"more")
    answer("snapshot", "-m", "one more")
    (snapshotted / "data" / "digits" / "images" / "more.png").unlink()
    answer("snapshot", "-m", "without it")
    assert version("push", "--all", *remote).returncode == 0
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(snapshotted), str(clone)], check=True)
    mlstack = in_folder(clone)

    pulled = mlstack("version", "pull", "HEAD~1", *remote)
    checked_out = mlstack("version", "checkout", "HEAD~1")

    assert pulled.returncode == 0, pulled.stderr
    assert checked_out.returncode == 0, checked_out.stderr
    assert (clone / "data" / "digits" / "images" / "more.png").read_bytes() == b"more"


def test_without_a_remote_a_clone_says_so_and_names_the_way_out(
    snapshotted, in_folder, tmp_path
) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(snapshotted), str(clone)], check=True)
    mlstack = in_folder(clone)

    pulled = mlstack("version", "pull")
    status = mlstack("status", "--json")
    trained = mlstack("train")

    assert pulled.returncode == 2
    assert "no remote is configured" in pulled.stderr
    assert "`mlstack version push`, typed where the data lies" in pulled.stderr
    assert "versioning: {remote:" in pulled.stderr
    assert json.loads(status.stdout)["next"] == "mlstack version pull"
    assert trained.returncode == 3
    assert "`mlstack version pull`" in trained.stderr


def test_without_a_remote_pull_lays_out_what_the_cache_holds(
    snapshotted, in_folder, version
) -> None:
    whole = data_folder.hash_folder(snapshotted / "data" / "digits").md5
    shutil.rmtree(snapshotted / "data" / "digits")
    mlstack = in_folder(snapshotted)

    status = mlstack("status", "--json")
    pulled = version("pull")

    assert json.loads(status.stdout)["next"] == "mlstack version checkout HEAD"
    assert "everything is here already" in pulled.stdout
    assert data_folder.hash_folder(snapshotted / "data" / "digits").md5 == whole


def test_without_a_remote_push_is_a_usage_error(snapshotted, version) -> None:
    done = version("push")

    assert done.returncode == 2
    assert "versioning: {remote:" in done.stderr


@pytest.mark.parametrize(
    ("remote", "said"),
    [
        ("", "versioning.remote is empty"),
        (".", "a folder of the project itself"),
        ("data/digits", "a folder of the project itself"),
        ("data/digits/store", "a folder of the project itself"),
        ("gopher://host/store", "look at versioning.remote"),
    ],
)
def test_a_remote_that_cannot_be_meant_is_a_usage_error(snapshotted, version, remote, said) -> None:
    before = set(snapshotted.rglob("*"))

    done = version("push", "--set", f'versioning.remote="{remote}"')

    assert done.returncode == 2
    assert said in done.stderr
    assert {path for path in set(snapshotted.rglob("*")) - before if "files" in path.parts} == set()


def test_a_remote_of_dvc_may_be_meant_by_its_name(snapshotted, answer, version, tmp_path) -> None:
    stock = [sys.executable, "-m", "dvc"]
    store = tmp_path / "the store"
    subprocess.run([*stock, "remote", "add", "Disk", store], cwd=snapshotted, check=True)

    nameless = version("push")
    named = answer("push", "--set", "versioning.remote=Disk")

    assert nameless.returncode == 2
    assert "dvc remote default disk" in nameless.stderr
    assert named["remote"] == str(store)
    assert named["objects"] > 300
    status = [*stock, "status", "-c", "-r", "Disk"]
    asked = subprocess.run(status, cwd=snapshotted, capture_output=True, text=True, check=True)
    assert "in sync" in asked.stdout
    assert not (snapshotted / "Disk").exists()


def test_before_the_first_version_every_command_says_so(project, version) -> None:
    stock = [sys.executable, "-m", "dvc"]
    subprocess.run(["git", "rm", "-q", "data/digits.dvc"], cwd=project, check=True)
    subprocess.run([*stock, "init", "-q"], cwd=project, check=True)
    pushed = version("push")
    subprocess.run(["git", "update-ref", "-d", "HEAD"], cwd=project, check=True)

    for done in (pushed, version("diff"), version("checkout", "HEAD")):
        assert done.returncode == 3
        assert "no data has been snapshotted here yet" in done.stderr


def test_an_older_version_that_is_not_here_says_how_to_fetch_it(snapshotted, version) -> None:
    first = dvc.read_pointer(snapshotted / "data" / "digits.dvc")
    (snapshotted / "data" / "digits" / "images" / "0001.png").unlink()
    assert version("snapshot", "-m", "one fewer").returncode == 0
    objects = snapshotted / ".dvc" / "cache" / "files" / "md5"
    (objects / first.md5[:2] / first.md5[2:]).unlink()
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD~1"], cwd=snapshotted, capture_output=True, text=True, check=True
    ).stdout[:7]

    done = version("checkout", "HEAD~1")

    assert done.returncode == 3
    assert f"`mlstack version pull {commit}`" in done.stderr


def test_a_remote_that_is_down_means_try_again(snapshotted, version, tmp_path: Path) -> None:
    unmounted = version("push", "--set", f"versioning.remote={tmp_path / 'disk' / 'store'}")
    refused = version("push", "--set", "versioning.remote=http://127.0.0.1:9/store")

    assert unmounted.returncode == 75
    assert refused.returncode == 75


def test_verify_names_a_damaged_object(snapshotted, version, answer) -> None:
    assert answer("verify")["objects"] > 250
    state = data_folder.hash_folder(snapshotted / "data" / "digits")
    md5 = state.entries["images/0007.png"]
    path = snapshotted / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]
    path.chmod(0o644)
    path.write_bytes(b"rot")

    done = version("verify")

    assert done.returncode == 3
    assert str(path) in done.stderr


def test_gc_frees_only_what_nothing_needs_and_only_with_yes(snapshotted, version, answer) -> None:
    cache = snapshotted / ".dvc" / "cache" / "files" / "md5"
    extra = cache / "ab" / "cdef0123456789abcdef0123456789"
    extra.parent.mkdir(exist_ok=True)
    extra.write_bytes(b"x" * 100)
    before = sum(1 for p in cache.rglob("*") if p.is_file())

    refused = version("gc")
    freed = answer("gc", "--yes")

    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    assert (freed["objects"], freed["size_bytes"]) == (1, 100)
    assert sum(1 for p in cache.rglob("*") if p.is_file()) == before - 1
    assert answer("verify")["ok"]
    assert answer("gc")["objects"] == 0


def test_gc_keeps_old_versions_unless_only_tips_are_asked_for(snapshotted, answer) -> None:
    (snapshotted / "data" / "digits" / "images" / "0000.png").unlink()
    answer("snapshot", "-m", "one fewer")

    kept = answer("gc", "--yes")
    freed = answer("gc", "--yes", "--only-tips")

    assert kept["objects"] == 0
    assert freed["objects"] == 2  # the list of files and the picture
    shutil.rmtree(snapshotted / "data" / "digits")
    assert answer("checkout", "HEAD")["ok"]


def test_gc_leaves_a_shared_cache_alone(snapshotted, version, tmp_path) -> None:
    with (snapshotted / ".dvc" / "config").open("a") as config:
        config.write(f"[cache]\n    dir = {tmp_path / 'shared'}\n")

    done = version("gc", "--yes")

    assert done.returncode == 2
    assert "may be shared" in done.stderr
