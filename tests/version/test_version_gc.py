"""`version gc`: what it keeps, that everything comes back, and kills in the middle."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dvc.repo import Repo

from mlstack import files
from mlstack.config import load
from mlstack.inputs import decoded
from mlstack.inputs.images import ImageSpec
from mlstack.launch.plan import PlanOptions, plan
from mlstack.records import dvc
from mlstack.records.run import Finished, append_event
from mlstack.version import marks, trash


def git(project: Path, *words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=project, capture_output=True, text=True, check=True
    ).stdout


def cache_of(project: Path) -> Path:
    return project / ".dvc" / "cache" / "files" / "md5"


def objects(folder: Path) -> set[str]:
    return {p.parent.name + p.name for p in folder.rglob("*") if p.is_file()}


def pointer_of(project: Path) -> Path:
    return project / "data" / "digits.dvc"


@pytest.fixture
def two_versions(snapshotted: Path, answer) -> Path:
    """A second version without 20 of the pictures and with 5 new ones."""
    images = snapshotted / "data" / "digits" / "images"
    for number in range(20):
        (images / f"{number:04d}.png").unlink()
    for number in range(5):
        (images / f"new{number}.png").write_bytes(os.urandom(500))
    assert answer("snapshot", "-m", "twenty fewer")["committed"]
    return snapshotted


def test_what_is_moved_to_the_trash_comes_back(two_versions, answer, version, dvc_status) -> None:
    before = objects(cache_of(two_versions))

    moved = answer("gc", "--yes", "--only-tips")
    after = objects(cache_of(two_versions))

    assert moved["moved"]
    assert (moved["objects"], moved["trash_objects"]) == (len(before - after), len(before - after))
    assert moved["trash_bytes"] == moved["size_bytes"] > 0
    assert "up to date" in dvc_status()
    assert answer("verify")["ok"]
    restored = answer("gc", "--restore")
    assert restored["objects"] == moved["objects"]
    assert objects(cache_of(two_versions)) == before
    assert not list(trash.folder(cache_of(two_versions)).iterdir())
    assert version("checkout", "HEAD~1").returncode == 0


def decode(project: Path) -> int:
    """Decode what the data holds now, as a run does; give the bytes of all decoded images."""
    paths = sorted((project / "data" / "digits" / "images").glob("[0-9]*.png"))
    rows = pa.table({"path": [str(one) for one in paths], "md5": [files.md5(one) for one in paths]})
    decoded.images(project / ".mlstack" / "x", rows, ImageSpec(8, 8, 1))
    store = project / ".mlstack" / "decoded" / "8x8x1-2"
    return sum(place.stat().st_size for place in store.iterdir())


def test_decoded_images_of_files_that_are_gone_are_deleted_when_agreed_to(
    snapshotted: Path, answer, version
) -> None:
    before = decode(snapshotted)
    images = snapshotted / "data" / "digits" / "images"
    for number in range(20):
        (images / f"{number:04d}.png").unlink()
    answer("snapshot", "-m", "twenty fewer")

    asked = version("gc")
    untouched = decode(snapshotted)
    freed = answer("gc", "--yes")
    after = decode(snapshotted)

    assert asked.returncode == 2
    assert "of decoded inputs could be deleted" in asked.stderr and "--yes" in asked.stderr
    assert untouched == before
    assert freed["remade_bytes"] == before - after == 20 * (8 * 8 + 33)
    assert freed["remade_needed_bytes"] == after


def test_what_a_run_that_can_go_on_reads_stays_decoded(snapshotted: Path, answer) -> None:
    spec = plan(load(snapshotted / "mlstack.yaml"), PlanOptions())
    before = decode(snapshotted)
    for place in (snapshotted / "data" / "digits" / "images").glob("000*.png"):
        place.unlink()
    answer("snapshot", "-m", "fewer")

    while_open = answer("gc", "--yes")["remade_bytes"]
    folder = snapshotted / ".mlstack" / "runs" / spec.id
    append_event(folder, Finished(run=spec.id, at=time.time(), step=1, epoch=1, metrics={}))
    afterwards = answer("gc", "--yes")["remade_bytes"]

    assert while_open == 0
    assert 0 < afterwards < before


def test_joined_tables_that_no_run_names_are_deleted_but_for_the_newest(
    snapshotted: Path, answer
) -> None:
    folder = snapshotted / ".mlstack" / "features"
    folder.mkdir()
    for age, name in enumerate(["newest", "named", "spare"]):
        place = folder / f"{name}.parquet"
        place.write_bytes(b"x" * 100)
        os.utime(place, (1e9 - age, 1e9 - age))
    spec = plan(load(snapshotted / "mlstack.yaml"), PlanOptions())
    examples = snapshotted / ".mlstack" / "runs" / spec.id / "examples.parquet"
    pq.write_table(pa.table({"path": [str(folder / "named.parquet")] * 3}), examples)

    freed = answer("gc", "--yes")["remade_bytes"]

    assert freed == 100
    assert sorted(place.stem for place in folder.iterdir()) == ["named", "newest"]


def test_the_table_says_which_version_frees_how_much(two_versions, answer, version) -> None:
    first = git(two_versions, "rev-parse", "HEAD~1").strip()

    shown = version("gc", "--only-tips")

    assert shown.returncode == 2
    assert "repeat with --yes" in shown.stderr
    (row,) = answer("gc", "--yes", "--only-tips")["versions"]
    lost = [p for p in objects(trash.folder(cache_of(two_versions))) if not p.endswith(".dir")]
    assert row["objects"] == len(lost) + 1
    assert row["revision"] in (first, git(two_versions, "rev-parse", "HEAD~2").strip())
    assert row["revision"][:7] in shown.stderr


def test_a_checkout_finds_in_the_trash_what_it_needs(two_versions, answer, version) -> None:
    answer("gc", "--yes", "--only-tips")

    done = version("checkout", "HEAD~1")

    assert done.returncode == 0, done.stderr
    assert (two_versions / "data" / "digits" / "images" / "0000.png").is_file()
    assert not trash.content(cache_of(two_versions))


def test_only_what_is_past_its_grace_is_deleted(two_versions, answer) -> None:
    answer("gc", "--yes", "--only-tips")
    place = trash.folder(cache_of(two_versions))
    (batch,) = place.iterdir()
    old = datetime.now(UTC) - timedelta(days=20)
    batch.rename(place / f"{old:{trash.TIME}}")

    kept = answer("gc", "--empty", "--grace", "30")
    gone = answer("gc", "--empty")

    assert (kept["objects"], gone["trash_objects"]) == (0, 0)
    assert gone["objects"] == kept["trash_objects"] > 0
    assert not trash.content(cache_of(two_versions))
    assert answer("verify")["ok"]


def test_the_next_gc_empties_what_is_past_its_grace(two_versions, answer) -> None:
    answer("gc", "--yes", "--only-tips")
    place = trash.folder(cache_of(two_versions))
    (batch,) = place.iterdir()
    batch.rename(place / "20200101T000000Z")

    again = answer("gc", "--yes", "--only-tips")

    assert again["deleted_bytes"] > 0
    assert again["trash_objects"] == 0


def test_what_a_branch_names_by_now_is_not_deleted_but_comes_back(two_versions, answer) -> None:
    moved = answer("gc", "--yes", "--only-tips")
    place = trash.folder(cache_of(two_versions))
    (batch,) = place.iterdir()
    batch.rename(place / "20200101T000000Z")
    git(two_versions, "branch", "again", "HEAD~1")

    emptied = answer("gc", "--empty")

    assert (moved["objects"] > 0, emptied["objects"], emptied["trash_objects"]) == (True, 0, 0)
    assert answer("checkout", "again")["ok"]


@pytest.mark.parametrize("setting", ["color.ui", "color.grep"])
def test_a_branch_keeps_its_data_whatever_git_is_told_to_colour(
    two_versions, answer, setting
) -> None:
    git(two_versions, "branch", "old", "HEAD~1")
    git(two_versions, "config", setting, "always")

    assert answer("gc", "--yes", "--only-tips")["objects"] == 0


def list_of_first(project: Path) -> Path:
    first = git(project, "show", "HEAD~1:data/digits.dvc")
    md5 = dvc.parse_pointer(first, where="").md5
    return cache_of(project) / md5[:2] / md5[2:]


def test_a_damaged_list_of_files_stops_a_collection(two_versions, version) -> None:
    listed = list_of_first(two_versions)
    listed.chmod(0o644)
    listed.write_bytes(listed.read_bytes()[:-100] + b"]")
    before = objects(cache_of(two_versions))

    done = version("gc", "--yes")

    assert done.returncode == 3
    assert "is damaged; nothing was touched" in done.stderr
    assert "version verify --fix" in done.stderr
    assert objects(cache_of(two_versions)) == before


def test_what_a_version_whose_list_is_lost_may_need_is_kept(two_versions, answer, version) -> None:
    list_of_first(two_versions).unlink()

    collected = answer("gc", "--yes")

    assert (collected["objects"], collected["unlisted"]) == (0, 20)
    assert "kept 20 more" in version("gc").stdout
    assert answer("gc", "--yes", "--only-tips")["objects"] == 20  # nobody asks for that version


@pytest.mark.parametrize("keeper", ["branch", "tag", "stash", "worktree", "index", "run"])
def test_what_anything_still_names_is_kept(two_versions, answer, tmp_path, keeper) -> None:
    """The first version is named by one thing only; the branch is as if it had never been."""
    project = two_versions
    first = git(project, "show", "HEAD~1:data/digits.dvc")
    md5 = dvc.parse_pointer(first, where="").md5
    head = git(project, "rev-parse", "HEAD~1").strip()
    match keeper:
        case "branch":
            git(project, "branch", "old", head)
        case "tag":
            git(project, "tag", "-a", "-m", "old", "v1", head)
        case "stash":
            pointer_of(project).write_text(first)
            git(project, "stash", "push", "-q", "--", "data/digits.dvc")
        case "worktree":
            git(project, "worktree", "add", "-q", "--detach", str(tmp_path / "other"), head)
        case "index":
            now = pointer_of(project).read_text()
            pointer_of(project).write_text(first)
            git(project, "add", "data/digits.dvc")
            pointer_of(project).write_text(now)
        case "run":
            lay_run(project, md5)

    freed = answer("gc", "--yes", "--only-tips")

    assert freed["objects"] == 0
    assert md5 in objects(cache_of(project))


def lay_run(project: Path, md5: str) -> None:
    from test_version_show import CODE, MACHINE

    from mlstack.records.base import write
    from mlstack.records.dataset import DatasetVersion
    from mlstack.records.run import RunSpec

    run = "20260101-000000-aaaa"
    spec = RunSpec(
        id=run,
        created="2026-01-01T00:00:00Z",
        root=str(project),
        command=[],
        config={},
        dataset=DatasetVersion(name="digits", source="data/digits", md5=md5),
        code=CODE,
        environment=MACHINE,
        seed=1,
        classes=[],
    )
    write(project / ".mlstack" / "runs" / run / "run.json", spec)


def test_data_of_old_runs_goes_when_only_recent_ones_are_asked_for(two_versions, answer) -> None:
    first = dvc.parse_pointer(git(two_versions, "show", "HEAD~1:data/digits.dvc"), where="")
    lay_run(two_versions, first.md5)

    kept = answer("gc", "--yes", "--only-tips", "--recent", "100000")
    freed = answer("gc", "--yes", "--only-tips", "--recent", "1")

    assert kept["objects"] == 0
    assert freed["objects"] > 0


def test_no_mark_of_dvc_is_missing(two_versions, in_folder, tmp_path) -> None:
    """Stages with outputs, a second dataset and a merge are marked as DVC marks them."""
    project = two_versions
    dvc_words = [sys.executable, "-m", "dvc", "-q"]
    (project / "other.txt").write_text("by itself")
    subprocess.run([*dvc_words, "add", "other.txt"], cwd=project, check=True)
    stage = ["stage", "add", "-n", "copy", "-d", "other.txt", "-o", "out/made.txt", "--run"]
    subprocess.run(
        [*dvc_words, *stage, "mkdir -p out && cp other.txt out/made.txt"], cwd=project, check=True
    )
    git(project, "checkout", "-q", "-b", "side")
    git(project, "add", "-A")
    git(project, "commit", "-q", "-m", "a stage")
    git(project, "checkout", "-q", "main")

    ours = {reach: marks.of_git(project, history=reach) for reach in (True, False)}

    with Repo(str(project)) as repo:
        every = repo.used_objs(all_commits=True, force=True)
        tips = repo.used_objs(all_branches=True, all_tags=True, force=True)
    named = {
        reach: {i.value for items in used.values() for i in items if _is_named(i, project)}
        for reach, used in ((True, every), (False, tips))
    }
    assert named[True] <= ours[True]
    assert named[False] <= ours[False]
    assert len(named[True]) > len(named[False]) == 2  # the stage copies the other file


def _is_named(item: object, project: Path) -> bool:
    """Tell whether a pointer names it, rather than a list of files that a pointer names."""
    value = item.value  # type: ignore[attr-defined]
    if value.endswith(".dir"):
        return True
    lists = [p for p in cache_of(project).rglob("*.dir")]
    inside = {m for p in lists for m in dvc.parse_listing(p.read_bytes(), where="").values()}
    return value not in inside


def test_another_dvc_at_work_means_try_again(two_versions, version) -> None:
    with Repo(str(two_versions)) as repo, repo.lock:
        done = version("gc", "--yes", "--only-tips")

    assert done.returncode == 75
    assert not trash.folder(cache_of(two_versions)).exists()


@pytest.mark.slow
def test_killed_at_any_moment_every_object_is_in_the_cache_or_the_trash(
    two_versions, answer, dvc_status, tmp_path
) -> None:
    cache, chance = cache_of(two_versions), random.Random(3)
    stock = [sys.executable, "-m", "dvc"]
    for words in (["remote", "add", "-d", "store", str(tmp_path / "store")], ["push", "-q", "-A"]):
        subprocess.run([*stock, *words], cwd=two_versions, check=True, stdout=subprocess.DEVNULL)
    everything = objects(cache)
    command = [sys.executable, "-m", "mlstack", "version", "gc", "--only-tips", "--yes"]
    begun = time.monotonic()
    subprocess.run(command, cwd=two_versions, check=True, stdout=subprocess.DEVNULL)
    took = time.monotonic() - begun
    cut = 0

    for words in (["--yes"], ["--restore"]) * 20:
        if cut == 4:
            break
        process = subprocess.Popen(
            [*command[:-1], *words], cwd=two_versions, stdout=-3, stderr=subprocess.DEVNULL
        )
        time.sleep(took * chance.uniform(0.6, 1.0))
        process.send_signal(signal.SIGKILL)
        hits = process.wait() == -signal.SIGKILL
        cut += hits
        there = objects(cache)
        assert there | objects(trash.folder(cache)) == everything
        took *= 1 if hits else 0.8  # the machine is quicker than it was when this was measured
        for listing in (p for p in there if p.endswith(".dir")):
            content = (cache / listing[:2] / listing[2:]).read_bytes()
            assert set(dvc.parse_listing(content, where="").values()) <= there
        cloud = subprocess.run([*stock, "status", "-c"], cwd=two_versions, capture_output=True)
        assert b"in sync" in cloud.stdout
    answer("gc", "--restore")

    assert cut == 4
    assert objects(cache) == everything
    assert answer("verify")["ok"]
    assert "up to date" in dvc_status()
    shutil.rmtree(two_versions / "data" / "digits")
    assert answer("checkout", "HEAD~1")["ok"]


@pytest.mark.parametrize("words", [("--restore",), ("--yes", "--only-tips")], ids=" ".join)
def test_a_move_cut_short_anywhere_is_taken_up_by_the_next(two_versions, words, answer) -> None:
    """Every prefix of the renames, as a kill leaves it, for a few sizes of prefix."""
    cache = cache_of(two_versions)
    everything = objects(cache)
    answer("gc", "--yes", "--only-tips")
    gone = [one.path for one in trash.content(cache)]
    trash.restore(cache)
    order = [cache / p.parent.name / p.name for p in gone]

    for size in (1, len(order) // 2, len(order) - 1):
        ordered = sorted(order, key=lambda path: not path.name.endswith(".dir"))[:size]
        trash.discard(cache, ordered, datetime.now(UTC) - timedelta(hours=1))
        answer("gc", *words)
        answer("gc", "--restore")
        assert objects(cache) == everything
