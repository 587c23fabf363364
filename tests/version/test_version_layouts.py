"""Data in packs and chunks: stock DVC, tar and cat get it back, and every command knows it."""

import dataclasses
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tarfile import GNU_FORMAT, TarInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlstack import packed
from mlstack.config import load
from mlstack.inputs.images import ImageSpec
from mlstack.inputs.images import load as load_image
from mlstack.launch import dataset as launch_dataset
from mlstack.packed import Packs
from mlstack.records import dvc
from mlstack.records.data_folder import hash_folder, look
from mlstack.records.file_hash import hash_files
from mlstack.version import forms, packs
from mlstack.version.history import Dataset

SPEC = ImageSpec(height=8, width=8, channels=1)


def sh(folder: Path, command: str) -> str:
    done = subprocess.run(
        ["sh", "-ec", command], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def stock_dvc(folder: Path, *words: str) -> str:
    command = [sys.executable, "-m", "dvc", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


# docs/formats.md, word for word: all that a machine without mlstack needs.
RESTORE = {
    "packs": """
mkdir -p digits
for pack in digits.packs/*.tar; do tar xf "$pack" -C digits; done
if [ -f digits.packs/removed ]; then (cd digits && xargs -0 rm -f < ../digits.packs/removed); fi
""",
    "chunks": """
cd digits.chunks/lists
find . -type f -exec sh -c '
  mkdir -p "../../digits/$(dirname "$1")"
  (cd ../chunks && xargs cat) < "$1" > "../../digits/$1"' sh {} ";"
""",
}


@pytest.fixture(params=["packs", "chunks"])
def layout(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def kept(snapshotted: Path, answer: Callable, layout: str) -> Path:
    """A project whose newest version is kept in the layout, and the one before as files."""
    (snapshotted / "mlstack.local.yaml").write_text(f"versioning: {{layout: {layout}}}\n")
    assert answer("snapshot", "-m", layout)["committed"]
    return snapshotted


@pytest.fixture
def in_packs(snapshotted: Path, answer: Callable) -> Path:
    (snapshotted / "mlstack.local.yaml").write_text("versioning: {layout: packs}\n")
    assert answer("snapshot", "-m", "packed")["committed"]
    return snapshotted


def edit(data: Path, seed: int) -> None:
    """Add, change and remove a few files."""
    rng = random.Random(seed)
    paths = sorted(path for path in data.rglob("*.png"))
    for path in rng.sample(paths, 3):
        path.write_bytes(rng.randbytes(rng.randint(0, 3000)))
    for path in rng.sample(paths, 2):
        path.unlink(missing_ok=True)
    (data / f"new {seed}").mkdir()
    (data / f"new {seed}" / "ä\n\t\\n\\.png").write_bytes(rng.randbytes(700))
    (data / f"new {seed}" / ("long" * 50)).write_bytes(b"")


def test_stock_dvc_and_tar_or_cat_restore_every_version(
    kept: Path, layout: str, answer: Callable, tmp_path: Path
) -> None:
    data = kept / "data" / "digits"
    remote = tmp_path / "remote"
    wanted = []
    for seed in range(3):
        edit(data, seed)
        assert answer("snapshot", "-m", f"edit {seed}")["committed"]
        wanted.append((content(data), sh(kept, "git rev-parse HEAD").strip()))
    (kept / "mlstack.local.yaml").write_text(
        f"versioning: {{layout: {layout}, remote: {remote}}}\n"
    )
    assert answer("push", "--all")["ok"]

    for files, commit in wanted:
        clone = tmp_path / commit
        sh(tmp_path, f"git clone -q {kept} {clone}; cd {clone}; git checkout -q {commit}")
        stock_dvc(clone, "remote", "add", "-d", "there", str(remote))
        stock_dvc(clone, "pull", "--quiet")
        sh(clone / "data", RESTORE[layout])
        assert content(clone / "data" / "digits") == files


def test_stock_dvc_agrees_and_would_write_the_same_pointer(
    kept: Path, layout: str, dvc_status: Callable
) -> None:
    pointer = kept / "data" / f"digits.{layout}.dvc"
    written = pointer.read_bytes()

    agreed = dvc_status()
    stock_dvc(kept, "add", "--quiet", f"data/digits.{layout}")

    assert "up to date" in agreed
    assert pointer.read_bytes() == written
    assert dvc.read_pointer(pointer).md5 == hash_folder(kept / "data" / "digits").md5


def test_a_change_adds_one_small_pack_and_every_version_comes_back(
    in_packs: Path, answer: Callable
) -> None:
    data, made = in_packs / "data" / "digits", in_packs / "data" / "digits.packs"
    states = [(content(data), "HEAD~2"), None, None]
    first = content(made)
    for number in (1, 2):
        edit(data, number)
        assert answer("snapshot", "-m", "edit")["committed"]
        states[number] = (content(data), f"HEAD~{2 - number}")
    grown = {name: one for name, one in content(made).items() if name not in first}

    assert first.items() <= content(made).items()
    assert sum(map(len, grown.values())) < 30_000
    for files, revision in states:
        assert answer("checkout", revision, "--force")["files"] == len(files)
        assert content(data) == files


def test_a_snapshot_of_nothing_new_commits_nothing(
    kept: Path, layout: str, answer: Callable
) -> None:
    before = content(kept / "data" / f"digits.{layout}")

    assert not answer("snapshot", "-m", "again")["committed"]

    assert content(kept / "data" / f"digits.{layout}") == before


def test_layouts_can_be_changed_and_the_history_goes_on(
    kept: Path, layout: str, answer: Callable, version: Callable, dvc_status: Callable
) -> None:
    data = kept / "data"
    files = content(data / "digits")

    packed_state = sorted(path.name for path in data.iterdir()), dvc_status()
    same = version("diff", "HEAD~1", "HEAD").stdout
    (kept / "mlstack.local.yaml").unlink()
    assert answer("snapshot", "-m", "loose")["committed"]

    assert f"digits.{layout}.dvc" in packed_state[0]
    assert "digits.dvc" not in packed_state[0]
    assert "up to date" in packed_state[1]
    assert "no difference" in same
    assert not (data / f"digits.{layout}").exists()
    assert not (data / f"digits.{layout}.dvc").exists()
    assert "up to date" in dvc_status()
    assert len({one["md5"] for one in answer("log")["versions"]}) == 1
    assert len(answer("log")["versions"]) == 3
    assert content(data / "digits") == files
    assert sh(kept, "git status --porcelain -- data") == ""


def test_an_older_version_of_the_other_layout_is_checked_out_whole(
    kept: Path, layout: str, answer: Callable, dvc_status: Callable
) -> None:
    data = kept / "data"
    files = content(data / "digits")
    edit(data / "digits", 1)
    answer("snapshot", "-m", "edit")

    answer("checkout", "HEAD~2")
    loose = content(data / "digits"), dvc_status(), (data / f"digits.{layout}").exists()
    answer("checkout", "HEAD")

    assert loose[0] == files
    assert "up to date" in loose[1]
    assert not loose[2]
    assert content(data / "digits") != files
    assert "up to date" in dvc_status()


def test_everything_is_packed_anew_when_much_of_it_is_dead(in_packs: Path, answer) -> None:
    data, made = in_packs / "data" / "digits", in_packs / "data" / "digits.packs"
    first = set(content(made))
    for number, path in enumerate(sorted(data.rglob("*.png"))):
        if number % 2:
            path.write_bytes(b"changed")

    answer("snapshot", "-m", "half of it")

    assert first.isdisjoint(content(made))
    assert packed.of_folder(made).entries == hash_folder(data).entries


def test_a_file_that_becomes_a_folder_is_restored_too(
    kept: Path, layout: str, answer: Callable, tmp_path: Path
) -> None:
    data = kept / "data" / "digits"
    path = sorted(data.rglob("*.png"))[0]
    path.unlink()
    path.mkdir()
    (path / "inside.png").write_bytes(b"inside")

    assert answer("snapshot", "-m", "a folder now")["committed"]
    shutil.copytree(kept / "data" / f"digits.{layout}", tmp_path / f"digits.{layout}")
    sh(tmp_path, RESTORE[layout])

    assert content(tmp_path / "digits") == content(data)


def test_training_reads_the_packs_and_the_folder_is_not_needed(
    in_packs: Path, answer: Callable, version: Callable
) -> None:
    data = in_packs / "data" / "digits"
    project = load(in_packs / "mlstack.yaml")
    before = launch_dataset.resolve(project, allow_dirty=False)
    path = sorted(data.rglob("*.png"))[0]
    image = load_image(path, SPEC)

    answer("checkout", "HEAD", "--packed")
    gone = not data.exists()
    packed_image = load_image(path, SPEC)
    after = launch_dataset.resolve(project, allow_dirty=False)
    refused = version("snapshot", "-m", "no")
    answer("checkout", "HEAD")

    assert gone
    assert (packed_image == image).all()
    assert after == before
    assert after.stored == dvc.read_pointer(in_packs / "data" / "digits.packs.dvc").stored.md5
    assert refused.returncode == 3
    assert "mlstack version checkout HEAD" in refused.stderr
    assert data.is_dir()


@pytest.mark.slow
def test_a_run_on_packs_learns_the_same_weights(in_packs: Path, in_folder, answer) -> None:
    mlstack = in_folder(in_packs)
    words = ("train", "--set", "train.epochs=1", "--json")
    loose = json.loads(mlstack(*words).stdout.splitlines()[-1])
    answer("checkout", "HEAD", "--packed")

    packed_run = json.loads(mlstack(*words).stdout.splitlines()[-1])

    assert packed_run["ok"], packed_run
    assert packed_run["metrics"] == loose["metrics"]


def test_a_change_in_place_costs_a_few_chunks(snapshotted: Path, answer: Callable) -> None:
    data, made = snapshotted / "data" / "digits", snapshotted / "data" / "digits.chunks"
    (snapshotted / "mlstack.local.yaml").write_text("versioning: {layout: chunks}\n")
    large = bytearray(random.Random(0).randbytes(24 << 20))
    (data / "large.bin").write_bytes(large)
    answer("snapshot", "-m", "chunks")
    first = set(content(made))
    large[10 << 20 : 10 << 20] = b"inserted" * 1000
    (data / "large.bin").write_bytes(large)

    answer("snapshot", "-m", "inserted")
    new = [len(one) for name, one in content(made).items() if name not in first]
    answer("checkout", "HEAD~1")
    before = len((data / "large.bin").read_bytes())
    answer("checkout", "HEAD")

    assert 0 < sum(new) < 2 << 20
    assert before == 24 << 20
    assert (data / "large.bin").read_bytes() == large


@pytest.mark.parametrize(
    ("count", "size", "changed", "wanted"),
    [
        (20_000, 100, False, "packs"),
        (20_000, 100_000, False, None),
        (19_999, 100, False, None),
        (3, 64 << 20, True, "chunks"),
        (3, 64 << 20, False, None),
        (3, 1 << 20, True, None),
    ],
)
def test_a_layout_is_suggested_where_it_helps(
    tmp_path: Path, monkeypatch, count: int, size: int, changed: bool, wanted: str | None
) -> None:
    data = Dataset(tmp_path, "set")
    data.folder.mkdir()
    for number in range(3):  # three stand for all of them
        (data.folder / f"{number}.bin").touch()
        os.truncate(data.folder / f"{number}.bin", size)
    if changed:
        hash_folder(data.folder, data.index)
        with (data.folder / "0.bin").open("r+b") as stream:
            stream.write(b"other")
    seen = look(data.folder, data.index)
    for number, (digest, stamp) in enumerate(hash_files(seen.found())):
        seen.learn(number, digest, stamp)
    after = dataclasses.replace(seen.hashed(), count=count, size_bytes=count * size)

    assert forms.better(data, seen, after) == wanted


def test_a_project_of_init_never_waits_for_dvc(tmp_path: Path, in_folder: Callable) -> None:
    in_folder(tmp_path)("init", "demo")
    project = tmp_path / "demo"
    (project / "data" / "digits" / "more.txt").write_text("more")

    command = [sys.executable, "-X", "importtime", "-m", "mlstack", "version", "snapshot"]
    done = subprocess.run(
        [*command, "-m", "more"], cwd=project, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0
    assert "mlstack.version.intake" in done.stderr
    assert "dvc.repo" not in done.stderr


def test_packed_is_refused_where_nothing_is(snapshotted: Path, version: Callable) -> None:
    done = version("checkout", "HEAD", "--packed")

    assert done.returncode == 2
    assert "versioning.layout" in done.stderr
    assert (snapshotted / "data" / "digits").is_dir()


def test_data_that_is_in_no_snapshot_is_not_overwritten(kept: Path, version) -> None:
    data = kept / "data" / "digits"
    (data / "mine.txt").write_text("mine")

    for words in (("checkout", "HEAD~1"), ("checkout", "HEAD")):
        done = version(*words)
        assert done.returncode == 3
        assert "mine.txt" in done.stderr

    assert (data / "mine.txt").read_text() == "mine"


def test_a_folder_of_the_user_in_the_place_of_the_packs_is_left_alone(
    snapshotted: Path, layout: str, version: Callable
) -> None:
    mine = snapshotted / "data" / f"digits.{layout}" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("mine")

    done = version("snapshot", "-m", "packed", "--set", f"versioning.layout={layout}")

    assert done.returncode == 3
    assert "in the way" in done.stderr
    assert mine.read_text() == "mine"


def test_damage_is_named_and_other_versions_are_whole(
    in_packs: Path, version: Callable, answer: Callable
) -> None:
    made = in_packs / "data" / "digits.packs"
    tar = next(made.glob("*.tar"))
    whole = tar.read_bytes()
    cached = in_packs / ".dvc" / "cache" / "files" / "md5"
    place = next(p for p in cached.rglob("*") if p.is_file() and p.stat().st_size == len(whole))
    place.chmod(0o644)
    place.write_bytes(whole[: len(whole) // 2])  # the pack in the folder is linked to it

    shutil.rmtree(in_packs / "data" / "digits")

    verified = version("verify")
    refused = version("checkout", "HEAD")
    older = version("checkout", "HEAD~1", "--force")

    assert verified.returncode == 3
    assert tar.name in verified.stderr
    assert refused.returncode == 3
    assert "is cut off" in refused.stderr
    assert older.returncode == 0  # of the loose version, which is whole


def test_what_a_layout_needs_is_not_garbage(
    kept: Path, answer: Callable, version: Callable
) -> None:
    data = kept / "data" / "digits"
    edit(data, 1)
    answer("snapshot", "-m", "edit")
    sh(kept, "git tag kept HEAD~1")

    answer("gc", "--yes")
    answer("gc", "--yes", "--only-tips")

    assert answer("verify")["absent"] == 0
    assert version("checkout", "kept").returncode == 0
    assert version("checkout", "HEAD").returncode == 0


def test_two_branches_are_merged(
    kept: Path, layout: str, answer: Callable, dvc_status: Callable
) -> None:
    data = kept / "data" / "digits"
    paths = sorted(data.rglob("*.png"))
    names = [path.relative_to(data).as_posix() for path in paths]
    sh(kept, "git checkout -q -b side")
    paths[0].write_bytes(b"theirs")
    paths[1].unlink()
    (data / "theirs.png").write_bytes(b"new of theirs")
    answer("snapshot", "-m", "theirs")
    sh(kept, "git checkout -q main")
    answer("checkout", "HEAD", "--force")
    paths[2].write_bytes(b"ours")
    (data / "ours.png").write_bytes(b"new of ours")
    answer("snapshot", "-m", "ours")

    sh(kept, "git merge -q --no-edit side")
    answer("checkout", "HEAD")

    merged = content(data)
    assert merged[names[0]] == b"theirs"
    assert names[1] not in merged
    assert merged[names[2]] == b"ours"
    assert merged["theirs.png"] == b"new of theirs"
    assert merged["ours.png"] == b"new of ours"
    assert "up to date" in dvc_status()
    shutil.rmtree(data)
    sh(kept / "data", RESTORE[layout])
    assert content(data) == merged


def test_after_git_checkout_of_the_other_layout_nothing_made_is_left(
    kept: Path, layout: str, answer: Callable, dvc_status: Callable
) -> None:
    data = kept / "data"
    (kept / "mlstack.local.yaml").unlink()
    sh(kept, "git checkout -q HEAD~1")
    assert (data / f"digits.{layout}").is_dir()

    assert answer("checkout", "HEAD")["ok"]

    assert not (data / f"digits.{layout}").exists()
    assert sh(kept, "git status --porcelain -- data") == ""
    assert "up to date" in dvc_status()


def test_branches_of_two_layouts_are_not_merged_by_dropping_one(
    kept: Path, layout: str, answer: Callable, version: Callable
) -> None:
    local = (kept / "mlstack.local.yaml").read_text()
    (kept / "mlstack.local.yaml").unlink()
    sh(kept, "git checkout -q -b side HEAD~1")
    answer("checkout", "HEAD")
    (kept / "data" / "digits" / "theirs.png").write_bytes(b"new of theirs")
    answer("snapshot", "-m", "theirs")
    sh(kept, "git checkout -q main && ! git merge -q side")

    refused = version("resolve")
    sh(kept, "git merge --abort && git checkout -q side")
    (kept / "mlstack.local.yaml").write_text(local)
    answer("snapshot", "-m", "theirs, in the layout of ours")
    sh(kept, "git checkout -q main && git merge -q --no-edit side")

    assert refused.returncode == 2
    assert f"`digits.{layout}.dvc`" in refused.stderr
    assert "git merge --abort" in refused.stderr
    assert answer("checkout", "HEAD")["ok"]
    assert (kept / "data" / "digits" / "theirs.png").read_bytes() == b"new of theirs"


def test_a_pointer_that_names_a_foreign_folder_is_refused(in_packs: Path, version) -> None:
    pointer = in_packs / "data" / "digits.packs.dvc"
    pointer.write_text(pointer.read_text().replace("path: digits.packs", "path: ../mlstack.yaml"))
    sh(in_packs, "git commit -qam odd")

    done = version("checkout", "HEAD", "--force")

    assert done.returncode == 3
    assert "not made of it" in done.stderr


@given(st.text(min_size=1, max_size=150).filter(lambda t: "\0" not in t), st.integers(0, 9 << 30))
def test_headers_are_those_of_tar(path: str, size: int) -> None:
    try:
        path.encode()
    except UnicodeEncodeError:
        return
    info = TarInfo(path)
    info.size, info.mode = size, 0o644

    assert packs._header(path, size) == info.tobuf(GNU_FORMAT, "utf-8", "surrogateescape")


@given(st.lists(st.text(max_size=20), unique=True, max_size=8))
def test_tables_are_read_as_they_were_written(tmp_path_factory, paths: list[str]) -> None:
    place = tmp_path_factory.getbasetemp() / "table.tsv"
    wanted = {path: f"{number:032x}" for number, path in enumerate(paths) if "\0" not in path}
    try:
        rows = [(0, 512, 3, md5, path) for path, md5 in wanted.items()]
        place.write_bytes(packed.table(rows))
    except UnicodeEncodeError:  # a name that no file system has
        return

    assert Packs({"0001-00000000.tsv": place}).entries == wanted


@pytest.mark.parametrize("path", ["/nowhere/a/b", "nowhere/b", "b"])
def test_a_file_that_is_nowhere_is_in_no_pack(path: str) -> None:
    assert not packed.is_packed(Path(path))


@pytest.mark.slow
def test_a_file_is_read_whole_that_the_kernel_gives_in_two_parts(tmp_path: Path) -> None:
    size = (2 << 30) + 10  # a call of pread ends at 2 GiB less a page
    tar = tmp_path / "0001-0a1b2c3d-000.tar"
    tar.touch()
    os.truncate(tar, 512 + size)
    (tmp_path / "0001-0a1b2c3d.tsv").write_bytes(packed.table([(0, 512, size, "0" * 32, "a")]))

    assert sum(map(len, packed.of_folder(tmp_path).pour("a"))) == size
