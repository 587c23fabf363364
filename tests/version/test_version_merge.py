"""Real git merges of two branches whose data differ, and stock DVC afterwards."""

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mlstack.records import dataset, dvc
from mlstack.version.merge import pick

Rows = list[dict[str, str]]


def git(project: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *words], cwd=project, capture_output=True, text=True, check=check)


def stock_dvc(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dvc", *words]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=True)


def rows_of(project: Path) -> Rows:
    return dataset.read_labels(project / "data" / "digits" / dataset.LABELS).to_pylist()


def relabel(project: Path, changes: dict[str, str | None]) -> None:
    """Give paths another label; None removes the row."""
    rows = [row | {"label": changes.get(row["path"], row["label"])} for row in rows_of(project)]
    kept = [row for row in rows if row["label"] is not None]
    path = project / "data" / "digits" / dataset.LABELS
    dataset.write_labels(path, dataset.pa.Table.from_pylist(kept))


def label_of(project: Path, path: str) -> str | None:
    return next((row["label"] for row in rows_of(project) if row["path"] == path), None)


@pytest.fixture
def fork(snapshotted: Path, answer) -> Callable[..., Path]:
    """Give a function that changes the data on `side` and on `main` and stands on `main`."""

    def make(theirs: Callable[[Path], None], ours: Callable[[Path], None]) -> Path:
        data = snapshotted / "data" / "digits"
        git(snapshotted, "checkout", "-q", "-b", "side")
        theirs(data)
        assert answer("snapshot", "-m", "theirs")["committed"]
        git(snapshotted, "checkout", "-q", "main")
        assert answer("checkout", "HEAD", "--force")["ok"]
        ours(data)
        assert answer("snapshot", "-m", "ours")["committed"]
        return snapshotted

    return make


def test_files_and_labels_of_both_sides_are_in_the_merge_and_dvc_agrees(fork) -> None:
    def theirs(data: Path) -> None:
        (data / "images" / "theirs.png").write_bytes(b"theirs")
        (data / "images" / "0001.png").write_bytes(b"another picture")
        relabel(data.parents[1], {"images/0002.png": "their answer", "images/0009.png": None})

    def ours(data: Path) -> None:
        (data / "images" / "ours.png").write_bytes(b"ours")
        (data / "images" / "0003.png").unlink()
        relabel(data.parents[1], {"images/0004.png": "our answer", "images/0003.png": None})

    project = fork(theirs, ours)

    merged = git(project, "merge", "--no-edit", "side", check=False)

    assert merged.returncode == 0, merged.stdout + merged.stderr
    assert "merged 3 files of ours and 3 of theirs" in merged.stdout + merged.stderr
    stock_dvc(project, "checkout", "--quiet")
    assert "up to date" in stock_dvc(project, "status").stdout
    data = project / "data" / "digits"
    assert (data / "images" / "theirs.png").read_bytes() == b"theirs"
    assert (data / "images" / "ours.png").read_bytes() == b"ours"
    assert (data / "images" / "0001.png").read_bytes() == b"another picture"
    assert not (data / "images" / "0003.png").exists()
    assert label_of(project, "images/0002.png") == "their answer"
    assert label_of(project, "images/0004.png") == "our answer"
    assert label_of(project, "images/0009.png") is None
    written = (project / "data" / "digits.dvc").read_bytes()
    stock_dvc(project, "add", "--quiet", "data/digits")
    assert (project / "data" / "digits.dvc").read_bytes() == written


def test_conflicts_are_named_and_either_side_can_be_taken(fork, answer, version) -> None:
    def change(label: str) -> Callable[[Path], None]:
        def apply(data: Path) -> None:
            (data / "images" / "0001.png").write_bytes(label.encode())
            (data / "images" / f"{label}.png").write_bytes(label.encode())
            relabel(data.parents[1], {"images/0002.png": label})

        return apply

    project = fork(change("them"), change("us"))

    merged = git(project, "merge", "--no-edit", "side", check=False)

    said = merged.stdout + merged.stderr
    assert merged.returncode == 1
    assert "images/0001.png: ours changed" in said
    assert "images/0002.png: ours label us; theirs label them" in said
    assert "mlstack version resolve --ours" in said
    held = dvc.read_pointer(project / "data" / "digits.dvc")  # a whole version, ours in doubt
    assert held is not None
    assert version("resolve").returncode == 1
    settled = version("resolve", "--theirs")
    assert settled.returncode == 0, settled.stderr
    git(project, "commit", "-q", "--no-edit")
    stock_dvc(project, "checkout", "--quiet")
    assert "up to date" in stock_dvc(project, "status").stdout
    images = project / "data" / "digits" / "images"
    assert (images / "0001.png").read_bytes() == b"them"
    assert (images / "us.png").is_file()
    assert (images / "them.png").is_file()
    assert label_of(project, "images/0002.png") == "them"
    assert version("resolve").returncode == 2
    assert answer("verify")["ok"]


@pytest.mark.parametrize("side", ["--ours", "--theirs"])
def test_a_file_that_is_a_folder_on_the_other_side_is_a_conflict(fork, version, side) -> None:
    def theirs(data: Path) -> None:
        (data / "extra" / "deep").mkdir(parents=True)
        (data / "extra" / "deep" / "a.png").write_bytes(b"a")

    project = fork(theirs, lambda data: (data / "extra").write_bytes(b"a file"))

    merged = git(project, "merge", "--no-edit", "side", check=False)

    assert merged.returncode == 1
    assert "extra: ours a file; theirs a folder" in merged.stdout + merged.stderr
    stock_dvc(project, "checkout", "--quiet")
    extra = project / "data" / "digits" / "extra"
    assert extra.read_bytes() == b"a file"
    assert version("resolve", side).returncode == 0
    stock_dvc(project, "checkout", "--quiet", "--force")
    assert extra.is_dir() == (side == "--theirs")
    assert "up to date" in stock_dvc(project, "status").stdout


def test_a_pointer_that_one_side_removed_is_left_to_git(fork, version) -> None:
    project = fork(
        lambda data: (data / "images" / "theirs.png").write_bytes(b"theirs"),
        lambda data: (data / "images" / "ours.png").write_bytes(b"ours"),
    )
    git(project, "rm", "-q", "data/digits.dvc")
    git(project, "commit", "-q", "-m", "no data")

    merged = git(project, "merge", "--no-edit", "side", check=False)
    done = version("resolve")

    assert merged.returncode == 1
    assert done.returncode == 2
    assert "one side removed `data/digits.dvc`" in done.stderr


def test_labels_that_cannot_be_merged_by_row_are_one_conflict(fork) -> None:
    def twice(data: Path) -> None:
        rows = rows_of(data.parents[1])
        table = dataset.pa.Table.from_pylist([*rows, rows[0]])
        dataset.write_labels(data / dataset.LABELS, table)

    project = fork(twice, lambda data: relabel(data.parents[1], {"images/0002.png": "ours"}))

    merged = git(project, "merge", "--no-edit", "side", check=False)

    said = merged.stdout + merged.stderr
    assert merged.returncode == 1
    assert "labels.parquet: ours changed" in said
    assert "names a path twice" in said
    assert "<<<<" not in (project / "data" / "digits.dvc").read_text()


def test_a_side_whose_files_are_not_here_says_what_to_pull(fork, version) -> None:
    project = fork(
        lambda data: (data / "images" / "theirs.png").write_bytes(b"theirs"),
        lambda data: (data / "images" / "ours.png").write_bytes(b"ours"),
    )
    ours = (project / "data" / "digits.dvc").read_text()
    pointer = dvc.parse_pointer(git(project, "show", "side:data/digits.dvc").stdout, where="")
    cache = project / ".dvc" / "cache" / "files" / "md5"
    listing = cache / pointer.md5[:2] / pointer.md5[2:]
    content = listing.read_bytes()
    listing.unlink()

    merged = git(project, "merge", "--no-edit", "side", check=False)

    assert merged.returncode == 1
    assert "mlstack version pull" in merged.stdout + merged.stderr
    assert (project / "data" / "digits.dvc").read_text() == ours
    listing.write_bytes(content)
    assert version("resolve").returncode == 0
    git(project, "commit", "-q", "--no-edit")
    assert dvc.read_pointer(project / "data" / "digits.dvc").files == 303


def test_a_pointer_of_one_file_is_merged_by_line_with_marks(snapshotted, in_folder) -> None:
    texts = {
        name: f"outs:\n- md5: {digit * 32}\n  size: 1\n  hash: md5\n  path: one.bin\n"
        for name, digit in (("before", "a"), ("ours", "b"), ("theirs", "c"))
    }
    for name, text in texts.items():
        (snapshotted / name).write_text(text)
    words = ("version", "merge-driver", "before", "ours", "theirs", "one.bin.dvc")

    done = in_folder(snapshotted)(*words)

    assert done.returncode == 1
    assert "<<<<<<< ours" in (snapshotted / "ours").read_text()
    assert "1 conflict is marked" in done.stdout


def test_what_else_a_pointer_says_is_merged_too(snapshotted, in_folder) -> None:
    text = (snapshotted / "data" / "digits.dvc").read_text()
    sides = {"before": text, "ours": f"# a note\n{text}", "theirs": f"{text}  desc: digits\n"}
    for name, content in sides.items():
        (snapshotted / name).write_text(content)
    words = ("version", "merge-driver", "before", "ours", "theirs", "data/digits.dvc")

    done = in_folder(snapshotted)(*words)

    assert done.returncode == 0, done.stderr
    assert (snapshotted / "ours").read_text() == f"# a note\n{text}  desc: digits\n"


def test_a_clone_learns_of_the_driver_with_its_first_pull(
    snapshotted, version, in_folder, tmp_path
) -> None:
    remote = ("--set", f"versioning.remote={tmp_path / 'store'}")
    assert version("push", *remote).returncode == 0
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(snapshotted), str(clone))

    before = git(clone, "config", "--get", "merge.mlstack.driver", check=False)
    pulled = in_folder(clone)("version", "pull", *remote)

    assert before.returncode == 1
    assert pulled.returncode == 0, pulled.stderr
    assert "merge-driver %O %A %B %P" in git(clone, "config", "merge.mlstack.driver").stdout
    attribute = git(clone, "check-attr", "merge", "data/digits.dvc").stdout
    assert attribute.strip() == "data/digits.dvc: merge: mlstack"


def test_own_attributes_are_kept(snapshotted, answer) -> None:
    path = snapshotted / ".gitattributes"
    path.write_text("*.bin binary\n*.dvc merge=union\n")

    answer("snapshot", "-m", "own attributes")

    assert path.read_text() == "*.bin binary\n*.dvc merge=union\n"


@pytest.mark.parametrize("seed", range(20))
def test_a_merge_is_symmetric_and_keeps_what_one_side_changed(seed: int) -> None:
    chance = random.Random(seed)
    names = [f"f{number}" for number in range(30)]

    def some(base: dict[str, str]) -> dict[str, str]:
        made = dict(base)
        for name in chance.sample(names, 8):
            if chance.random() < 0.4:
                made.pop(name, None)
            else:
                made[name] = chance.choice("xyz")
        return made

    before = {name: "o" for name in chance.sample(names, 20)}
    ours, theirs = some(before), some(before)

    one, two = pick(before, ours, theirs), pick(before, theirs, ours)

    assert one.torn == two.torn
    for name in names:
        sides = {ours.get(name), theirs.get(name)}
        if name in one.torn:
            assert before.get(name) not in sides
            continue
        assert one.entries.get(name) == two.entries.get(name)
        changed = sides - {before.get(name)}
        assert one.entries.get(name) == (changed.pop() if changed else before.get(name))
