import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlstack.errors import DataError
from mlstack.records import data_folder, dataset, dvc
from mlstack.version import guard
from mlstack.version.history import Dataset


def git(project: Path, *words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=project, capture_output=True, text=True, check=True
    ).stdout


def test_a_snapshot_is_a_commit_that_stock_dvc_agrees_with(project, answer, dvc_status) -> None:
    (project / "data" / "digits" / "images" / "more.png").write_bytes(b"new")

    said = answer("snapshot", "-m", "one more")

    assert said["ok"]
    assert said["committed"]
    assert said["revision"] == git(project, "rev-parse", "HEAD").strip()
    assert said["files"] == 302
    assert said["md5"] == data_folder.hash_folder(project / "data" / "digits").md5
    assert git(project, "log", "-1", "--format=%s").strip() == "one more"
    assert git(project, "status", "--porcelain") == ""
    assert "up to date" in dvc_status()
    config = (project / ".dvc" / "config").read_text()
    assert "analytics = false" in config.lower()
    assert "check_update = false" in config.lower()


def test_the_second_snapshot_says_that_nothing_changed(snapshotted, version, answer) -> None:
    head = git(snapshotted, "rev-parse", "HEAD")

    again = version("snapshot", "-m", "again")

    assert again.returncode == 0
    assert "nothing changed" in again.stdout
    assert git(snapshotted, "rev-parse", "HEAD") == head


def test_a_snapshot_counts_what_changed(snapshotted, answer) -> None:
    images = snapshotted / "data" / "digits" / "images"
    (images / "new.png").write_bytes(b"new")
    (images / "0001.png").unlink()
    (images / "0002.png").write_bytes(b"other")

    said = answer("snapshot", "-m", "changes")

    assert (said["added"], said["removed"], said["changed"]) == (1, 1, 1)


def test_on_a_detached_head_the_hint_is_to_make_a_branch(snapshotted, version) -> None:
    git(snapshotted, "switch", "--quiet", "--detach")
    (snapshotted / "data" / "digits" / "images" / "new.png").write_bytes(b"new")
    detached = version("snapshot", "-m", "nowhere")
    git(snapshotted, "switch", "--quiet", "-c", "kept")
    (snapshotted / "data" / "digits" / "images" / "new.png").write_bytes(b"newer")

    on_branch = version("snapshot", "-m", "on a branch")

    assert "`git switch -c NAME`" in detached.stdout
    assert "nothing changed" in version("snapshot", "-m", "again").stdout
    assert on_branch.returncode == 0
    assert "git switch" not in on_branch.stdout


def test_a_snapshot_works_when_git_has_no_identity(project, answer, monkeypatch) -> None:
    for key in ("name", "email"):
        git(project, "config", "--unset", f"user.{key}")
    git(project, "config", "user.useConfigOnly", "true")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)

    said = answer("snapshot", "-m", "nobody")

    assert said["ok"], said
    assert git(project, "log", "-1", "--format=%an").strip() == "mlstack"


def test_outside_a_git_repository_the_hint_is_git_init(project, version) -> None:
    shutil.rmtree(project / ".git")

    done = version("snapshot", "-m", "x")

    assert done.returncode == 2
    assert "git init" in done.stderr


def test_before_the_first_commit_and_below_the_repository_it_works(project, answer) -> None:
    shutil.rmtree(project / ".git")
    git(project.parent, "init", "-q")

    said = answer("snapshot", "-m", "first of all")

    assert said["ok"], said
    assert said["committed"]


@pytest.mark.parametrize(
    ("trouble", "code", "words"),
    [
        ("missing", 3, "there is no folder"),
        ("empty", 3, "holds no files"),
        ("in git", 3, "git rm -r -q --cached"),
        ("link", 3, "`data/digits` is a link"),
        ("ignored", 2, "git ignores"),
        ("no message", 2, "message is empty"),
        ("versions off", 2, "versioning.backend"),
    ],
)
def test_what_cannot_be_snapshotted_is_said(project, version, trouble, code, words) -> None:
    data, message = project / "data" / "digits", "x"
    more: list[str] = []
    match trouble:
        case "missing":
            shutil.rmtree(data)
        case "empty":
            shutil.rmtree(data)
            data.mkdir()
        case "in git":
            git(project, "add", "-f", "data/digits/labels.parquet")
        case "link":
            data.rename(project / "elsewhere")
            data.symlink_to(project / "elsewhere")
        case "ignored":
            git(project, "rm", "-q", "--cached", "data/digits.dvc")
            (project / ".gitignore").write_text("data/\n")
        case "no message":
            message = "\n"
        case "versions off":
            more = ["--set", "versioning.backend=none"]

    done = version("snapshot", "-m", message, *more)

    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("is_there", [False, True])
@pytest.mark.parametrize(
    "words",
    [
        ("version", "snapshot", "-m", "x"),
        ("version", "check"),
        ("label", "stats"),
        ("train",),
        ("tune",),
        ("run",),
    ],
)
def test_data_that_is_not_checked_out_is_brought_back_by_the_command_that_is_said(
    snapshotted, in_folder, words, *, is_there
) -> None:
    shutil.rmtree(snapshotted / "data" / "digits")
    if is_there:
        (snapshotted / "data" / "digits").mkdir()

    done = in_folder(snapshotted)(*words)

    assert done.returncode == 3
    assert ", but `data/digits.dvc` names its files\n" in done.stderr
    assert "hint: type `mlstack version checkout HEAD`\n" in done.stderr


STAGE = "stages:\n  prep:\n    cmd: make\n    wdir: data\n    outs: [digits: {cache: false}]\n"


@pytest.mark.parametrize(
    ("where", "text", "hint"),
    [
        ("data.dvc", "outs:\n- path: data\n", "write `data` in data.source"),
        ("other.dvc", "outs:\n- path: data/digits\n", "dvc remove other.dvc"),
        ("data/digits/images.dvc", "outs:\n- path: images\n", "dvc remove data/digits/images.dvc"),
        ("dvc.yaml", STAGE, "take it out of `dvc.yaml`"),
    ],
)
def test_data_that_dvc_keeps_already_is_not_kept_twice(project, version, where, text, hint) -> None:
    git(project, "rm", "-q", "data/digits.dvc")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=project, check=True)
    (project / where).write_text(text)
    git(project, "add", "-f", where)

    done = version("snapshot", "-m", "x")

    assert done.returncode == 3
    assert f"`{where}` keeps `" in done.stderr
    assert hint in done.stderr
    assert not (project / "data" / "digits.dvc").exists()


@pytest.mark.parametrize("name", ["pictures.dvc", "pic:tures"])
def test_a_folder_that_dvc_cannot_name_is_refused(project, version, name) -> None:
    (project / "data" / "digits").rename(project / "data" / name)

    done = version("snapshot", "-m", "x", "--set", f'data.source="data/{name}"')

    assert done.returncode == 3
    assert "DVC cannot keep a folder called" in done.stderr


@pytest.mark.parametrize("has_git", [True, False])
def test_inside_the_dvc_repository_of_another_project_it_has_its_own(
    project, version, dvc_status, has_git
) -> None:
    around = project.parent
    if has_git:
        git(around, "init", "-q")
    words = ["dvc", "init", "-q", *([] if has_git else ["--no-scm"])]
    subprocess.run([sys.executable, "-m", *words], cwd=around, check=True)
    git(project, "rm", "-q", "data/digits.dvc")

    done = version("snapshot", "-m", "ours")

    assert done.returncode == 0, done.stderr
    assert ".dvc/config" in git(project, "ls-files")
    assert "up to date" in dvc_status()
    assert git(project, "status", "--porcelain") == ""


def test_a_merge_under_way_is_named_and_takes_the_snapshot_along(snapshotted, version) -> None:
    git(snapshotted, "checkout", "-q", "-b", "other")
    git(snapshotted, "commit", "-q", "--allow-empty", "-m", "theirs")
    git(snapshotted, "checkout", "-q", "-")
    git(snapshotted, "merge", "--no-ff", "--no-commit", "other")
    (snapshotted / "data" / "digits" / "images" / "more.png").write_bytes(b"new")

    done = version("snapshot", "-m", "x")

    assert done.returncode == 1
    assert "in the middle of a merge" in done.stderr
    assert "finish with `git commit`" in done.stderr
    assert git(snapshotted, "status", "--porcelain").splitlines() == ["M  data/digits.dvc"]


def test_another_layout_is_committed_also_when_a_hook_refused_it_first(
    snapshotted, version
) -> None:
    hook = snapshotted / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    words = ("snapshot", "-m", "packs", "--set", "versioning.layout=packs")
    assert version(*words).returncode == 1
    hook.unlink()

    done = version(*words)

    assert done.returncode == 0, done.stderr
    assert git(snapshotted, "ls-files", "data/*.dvc").split() == ["data/digits.packs.dvc"]


def test_a_pointer_of_dvc_for_other_files_than_lie_there_is_not_committed(snapshotted) -> None:
    data = Dataset(snapshotted, "data/digits")
    guard.refuse_other(data, data_folder.hash_folder(data.folder))
    (data.folder / "images" / "0001.png").unlink()

    with pytest.raises(DataError, match="DVC has kept 301 files of `data/digits`, where 300 files"):
        guard.refuse_other(data, data_folder.hash_folder(data.folder))


@pytest.mark.parametrize("pointer", ["plain", "of DVC 2"])
def test_a_dvc_repository_in_the_data_is_refused_and_no_empty_version_made(
    snapshotted, version, pointer
) -> None:
    written = snapshotted / "data" / "digits.dvc"
    if pointer == "of DVC 2":
        written.write_text(written.read_text().replace("  hash: md5\n", ""))
    before = written.read_text()
    (snapshotted / "data" / "digits" / ".dvc").mkdir()
    (snapshotted / "data" / "digits" / "more.txt").write_text("new")

    done = version("snapshot", "-m", "x")

    assert done.returncode == 3
    assert "digits/.dvc` is a DVC repository in a dataset" in done.stderr
    assert written.read_text() == before


def test_where_dvc_was_deleted_the_next_snapshot_makes_it_anew(
    snapshotted, version, dvc_status
) -> None:
    shutil.rmtree(snapshotted / ".dvc")

    done = version("snapshot", "-m", "again")

    assert done.returncode == 0, done.stderr
    assert "nothing changed" in done.stdout
    assert git(snapshotted, "status", "--porcelain") == ""
    assert "up to date" in dvc_status()


def test_a_pointer_full_of_conflict_marks_is_written_anew(snapshotted, answer, dvc_status) -> None:
    (snapshotted / "data" / "digits.dvc").write_text("<<<<<<< HEAD\nouts:\n=======\n")

    said = answer("snapshot", "-m", "mended")

    assert said["ok"], said
    assert "up to date" in dvc_status()


def test_another_snapshot_at_the_same_time_is_told_to_try_again(project, version) -> None:
    from mlstack import files

    with files.lock(project / ".mlstack" / "version.lock", "a test"):
        done = version("snapshot", "-m", "x")

    assert done.returncode == 75


@pytest.mark.slow
def test_killed_anywhere_the_version_before_is_whole_and_the_same_command_goes_on(
    snapshotted, answer, version, dvc_status
) -> None:
    before = git(snapshotted, "rev-parse", "HEAD").strip()
    command = [sys.executable, "-m", "mlstack", "version", "snapshot", "-m", "second"]
    chance = random.Random(5)
    for number in range(300):
        (snapshotted / "data" / "digits" / "images" / f"n{number}.png").write_bytes(
            chance.randbytes(3000)
        )

    for _ in range(6):
        process = subprocess.Popen(
            command, cwd=snapshotted, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(chance.uniform(0.25, 1.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
        held = dvc.parse_pointer(git(snapshotted, "show", f"{before}:data/digits.dvc"), where="")
        assert answer("diff", before, before)["ok"]
        assert held.files == 301
    done = version("snapshot", "-m", "second")

    assert done.returncode == 0, done.stderr
    assert dvc.read_pointer(snapshotted / "data" / "digits.dvc").files == 601
    assert answer("verify")["ok"]
    assert git(snapshotted, "status", "--porcelain") == ""
    assert "up to date" in dvc_status()


def test_log_lists_versions_with_their_classes(snapshotted, answer) -> None:
    source = snapshotted / "data" / "digits"
    table = dataset.read_labels(source / dataset.LABELS)
    dataset.write_labels(source / dataset.LABELS, table.slice(10))
    answer("snapshot", "-m", "ten labels fewer")

    said = answer("log")

    assert [entry["message"] for entry in said["versions"]] == ["ten labels fewer", "start"]
    assert [sum(entry["classes"].values()) for entry in said["versions"]] == [290, 300]
    assert said["current"] == said["versions"][0]["md5"]


def test_a_message_with_any_end_of_a_line_in_it_is_listed(snapshotted, answer) -> None:
    """Git knows one end of a line; Python's `splitlines` knows eleven."""
    (snapshotted / "data" / "digits" / "images" / "more.png").write_bytes(b"more")
    message = "one\u2028two\x85three\x1cfour\x0cfive"
    answer("snapshot", "-m", message)

    assert answer("log")["versions"][0]["message"] == message
    assert len(answer("log", "--limit", "1")["versions"]) == 1


def test_signed_commits_are_listed_where_git_shows_signatures(snapshotted, answer) -> None:
    key = snapshotted.parent / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    for name, value in {
        "gpg.format": "ssh",
        "user.signingkey": f"{key}.pub",
        "commit.gpgsign": "true",
        "log.showSignature": "true",
    }.items():
        git(snapshotted, "config", name, value)
    (snapshotted / "data" / "digits" / "images" / "more.png").write_bytes(b"new")

    made = answer("snapshot", "-m", "signed")
    again = answer("snapshot", "-m", "again")

    assert made["committed"]
    assert again["revision"] == made["revision"]
    assert [one["message"] for one in answer("log")["versions"]] == ["signed", "start"]


def test_diff_names_files_labels_and_class_balance(snapshotted, answer, version) -> None:
    source = snapshotted / "data" / "digits"
    rows = dataset.read_labels(source / dataset.LABELS).to_pylist()
    old = rows[3]["label"]
    rows[3]["label"] = "9" if old != "9" else "8"
    dataset.write_labels(source / dataset.LABELS, dataset.pa.Table.from_pylist(rows))
    (source / "images" / "more.png").write_bytes(b"new")
    answer("snapshot", "-m", "second")

    said = answer("diff", "HEAD~2", "HEAD")

    assert said["added"] == ["images/more.png"]
    assert said["removed"] == []
    assert said["changed"] == ["labels.parquet"]
    assert [(r["path"], r["before"]) for r in said["relabelled"]] == [(rows[3]["path"], old)]
    moved = {c["name"]: c["after"] - c["before"] for c in said["classes"]}
    assert sorted(moved.values()) == [-1, *[0] * 8, 1]
    assert answer("diff")["added"] == []
    assert version("diff", "nothing-like-it").returncode == 2


def look_at(project):
    """Have the index know every file: none was written so lately that it is read again."""
    data, index = project / "data" / "digits", project / ".mlstack" / "index" / "data~digits.idx"
    an_hour_ago = time.time() - 3600
    for path in data.rglob("*"):
        os.utime(path, (an_hour_ago, an_hour_ago))
    looked = data_folder.hash_folder(data, index)
    assert data_folder.look(data, index).unknown == []
    return looked


def test_a_file_that_was_looked_at_before_is_kept_all_the_same(project, version):
    looked = look_at(project)

    done = version("snapshot", "-m", "first")

    assert done.returncode == 0, done.stderr
    cache = project / ".dvc" / "cache" / "files" / "md5"
    assert all((cache / md5[:2] / md5[2:]).is_file() for md5 in looked.entries.values())
    assert version("verify").returncode == 0


def test_a_cache_that_was_removed_is_filled_again_by_the_next_snapshot(snapshotted, version):
    look_at(snapshotted)
    shutil.rmtree(snapshotted / ".dvc" / "cache")

    done = version("snapshot", "-m", "again")

    assert done.returncode == 0, done.stderr
    assert "nothing changed" in done.stdout
    assert version("verify").returncode == 0


def test_one_object_that_was_removed_is_put_back_by_the_next_snapshot(snapshotted, version):
    (snapshotted / "data" / "digits" / "one more.txt").write_text("one")
    assert version("snapshot", "-m", "one").returncode == 0  # notes that all is there
    looked = look_at(snapshotted)
    cache = snapshotted / ".dvc" / "cache" / "files" / "md5"
    md5 = looked.entries["images/0001.png"]
    (cache / md5[:2] / md5[2:]).unlink()
    (snapshotted / "data" / "digits" / "two more.txt").write_text("two")

    done = version("snapshot", "-m", "two")

    assert done.returncode == 0, done.stderr
    assert (cache / md5[:2] / md5[2:]).is_file()
    assert version("verify").returncode == 0
