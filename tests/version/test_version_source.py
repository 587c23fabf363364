"""`data.source` as a URL: copied once, whole, resumable, the same from everywhere."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from s3_server import S3, serving

from mlstack.records import data_folder, dvc

CONFIG = """version: 1
project: {{name: pets, task: image-classification}}
data: {{source: "{url}"}}
model: {{class: "pets.model:Net"}}
"""
FILES = {f"images/ä {n}/{n:02}.png": f"picture {n}".encode() * 50 for n in range(30)}
FILES["labels.csv"] = b"path,label\n"
FILES["empty.txt"] = b""


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with serving() as server:
        yield server


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """A folder outside the project that holds the files."""
    for name, body in FILES.items():
        path = tmp_path / "shelf" / "pets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    return tmp_path / "shelf" / "pets"


@pytest.fixture
def bucket(s3: S3, request: pytest.FixtureRequest) -> str:
    name = f"b{abs(hash(request.node.name)) % 10**12}"
    s3.client().create_dir(name)
    for path, body in FILES.items():
        with s3.client().open_output_stream(f"{name}/raw/pets/{path}") as stream:
            stream.write(body)
    return name


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str], Path]:
    def build(url: str, name: str = "project") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "mlstack.yaml").write_text(CONFIG.format(url=url))
        subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
        for key, value in (("user.name", "T"), ("user.email", "t@example.invalid")):
            subprocess.run(["git", "config", key, value], cwd=folder, check=True)
        return folder

    return build


@pytest.fixture
def mlstack(s3: S3):
    def run(folder: Path, *words: str, **environment: str):
        command = [sys.executable, "-m", "mlstack", *words]
        env = s3.environment | environment
        return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)

    return run


def answer(done: subprocess.CompletedProcess[str]) -> dict:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def content(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in data_folder.list_files(folder)}


def test_every_file_arrives_whole(make, mlstack, shelf):
    project = make(f"file://{shelf}")

    done = answer(mlstack(project, "version", "pull", "--json"))

    assert content(project / "data" / "pets") == FILES
    assert (done["copied"], done["size_bytes"]) == (len(FILES), sum(map(len, FILES.values())))


@pytest.mark.slow
def test_a_folder_and_a_bucket_give_the_same_dataset(make, mlstack, shelf, bucket):
    local, far = make(f"file://{shelf}", "local"), make(f"s3://{bucket}/raw/pets", "far")

    for project in (local, far):
        assert mlstack(project, "version", "pull").returncode == 0
        assert mlstack(project, "version", "snapshot", "-m", "first").returncode == 0

    versions = [dvc.read_pointer(project / "data" / "pets.dvc") for project in (local, far)]
    assert versions[0] is not None
    assert versions[0].md5 == versions[1].md5


@pytest.mark.parametrize("kind", ["file", "s3"])
def test_a_second_copy_moves_no_byte(make, mlstack, shelf, bucket, s3, kind: str):
    project = make(f"file://{shelf}" if kind == "file" else f"s3://{bucket}/raw/pets")
    mlstack(project, "version", "pull")
    before = s3.tell()["get"]

    done = answer(mlstack(project, "version", "pull", "--json"))

    assert (done["copied"], done["size_bytes"]) == (0, 0)
    assert s3.tell()["get"] == before
    assert "0 B moved" in mlstack(project, "version", "pull").stdout


def test_only_what_changed_at_the_source_is_copied_again(make, mlstack, shelf):
    project = make(f"file://{shelf}")
    mlstack(project, "version", "pull")
    (shelf / "labels.csv").write_text("path,label\nimages/0.png,cat\n")
    (shelf / "empty.txt").unlink()

    done = answer(mlstack(project, "version", "pull", "--json"))

    assert (done["copied"], done["removed"]) == (1, 1)
    assert content(project / "data" / "pets") == content(shelf)


def test_a_copy_that_fails_half_way_goes_on(make, mlstack, s3, bucket):
    project = make(f"s3://{bucket}/raw/pets")
    s3.tell(fail_after=12, method="GET", status=503, code="SlowDown")
    failed = mlstack(project, "version", "pull")
    s3.tell()
    arrived = content(project / "data" / "pets")

    again = answer(mlstack(project, "version", "pull", "--json"))

    assert failed.returncode == 75
    assert 0 < len(arrived) < len(FILES)
    assert arrived.items() <= FILES.items()
    assert again["copied"] == len(FILES) - len(arrived)
    assert content(project / "data" / "pets") == FILES


def test_a_large_file_goes_on_in_its_middle(make, mlstack, s3):
    s3.client().create_dir("large")
    body = os.urandom(20 << 20)
    with s3.client().open_output_stream("large/raw/big.bin") as stream:
        stream.write(body)
    project = make("s3://large/raw")
    s3.tell(fail_after=3, method="GET", status=503, code="SlowDown")  # looking, listing, a part
    failed = mlstack(project, "version", "pull")
    s3.tell()

    again = answer(mlstack(project, "version", "pull", "--json"))

    assert failed.returncode == 75
    assert again["size_bytes"] == 12 << 20  # one part of 8 MiB had arrived
    assert (project / "data" / "raw" / "big.bin").read_bytes() == body


@pytest.mark.slow
def test_a_copy_killed_at_any_moment_goes_on(make, mlstack, s3, bucket):
    project = make(f"s3://{bucket}/raw/pets")
    command = [sys.executable, "-m", "mlstack", "version", "pull"]
    start = s3.tell()["get"]
    with subprocess.Popen(command, cwd=project, env=s3.environment) as copier:
        while s3.tell()["get"] < start + 10 and copier.poll() is None:
            pass
        copier.kill()

    done = mlstack(project, "version", "pull")

    assert done.returncode == 0, done.stderr
    assert content(project / "data" / "pets") == FILES


def test_what_was_changed_here_is_not_lost(make, mlstack, shelf):
    project = make(f"file://{shelf}")
    mlstack(project, "version", "pull")
    (project / "data" / "pets" / "labels.csv").write_text("mine")
    (shelf / "labels.csv").write_text("theirs, and longer")

    refused = mlstack(project, "version", "pull")
    kept = (project / "data" / "pets" / "labels.csv").read_text()
    forced = mlstack(project, "version", "pull", "--force")

    assert refused.returncode == 3
    assert "`labels.csv`" in refused.stderr
    assert "--force" in refused.stderr
    assert kept == "mine"
    assert forced.returncode == 0
    assert (project / "data" / "pets" / "labels.csv").read_text() == "theirs, and longer"


def test_files_that_only_lie_here_stay(make, mlstack, shelf):
    project = make(f"file://{shelf}")
    mlstack(project, "version", "pull")
    (project / "data" / "pets" / "labels.parquet").write_bytes(b"made by people here")

    assert mlstack(project, "version", "pull").returncode == 0

    assert (project / "data" / "pets" / "labels.parquet").read_bytes() == b"made by people here"


@pytest.mark.slow
def test_once_snapshotted_pull_means_the_version_and_source_is_asked_by_name(make, mlstack, shelf):
    project = make(f"file://{shelf}")
    mlstack(project, "version", "pull")
    mlstack(project, "version", "snapshot", "-m", "first")
    (shelf / "new.txt").write_text("new")
    (shelf / "labels.csv").write_text("path,label\na,b\n")
    shutil.rmtree(project / "data" / "pets")

    exact = mlstack(project, "version", "pull")
    restored = content(project / "data" / "pets")
    newest = mlstack(project, "version", "pull", "--source")

    assert exact.returncode == 0, exact.stderr
    assert restored == FILES
    assert newest.returncode == 0, newest.stderr
    assert content(project / "data" / "pets") == content(shelf)


def test_one_table_by_its_url_becomes_the_table_of_the_dataset(make, mlstack, tmp_path):
    (tmp_path / "houses.csv").write_text("rooms,price\n3,cheap\n")
    project = make(f"file://{tmp_path}/houses.csv")

    done = answer(mlstack(project, "version", "pull", "--json"))

    assert done["folder"] == "data/houses"
    assert (project / "data" / "houses" / "table.csv").read_text() == "rooms,price\n3,cheap\n"


@pytest.mark.slow
def test_train_says_what_to_type_when_the_data_is_not_here(make, mlstack, shelf):
    project = make(f"file://{shelf}")
    (project / "pets").mkdir()
    (project / "pets" / "model.py").write_text("class Net: pass\n")

    done = mlstack(project, "train")

    assert done.returncode == 3
    assert f"file://{shelf}" in done.stderr
    assert "mlstack version pull" in done.stderr
    assert "mlstack version pull" in mlstack(project).stdout


@pytest.mark.parametrize(
    "words", [["version", "snapshot", "-m", "x"], ["version", "check"], ["label", "stats"]]
)
def test_commands_that_need_the_data_say_what_brings_it(make, mlstack, shelf, words: list[str]):
    done = mlstack(make(f"file://{shelf}"), *words)

    assert done.returncode == 3
    assert "mlstack version pull" in done.stderr


def test_a_url_whose_package_is_not_installed_is_exit_6(make, mlstack):
    done = mlstack(make("gs://bucket/pets"), "version", "pull")

    assert done.returncode == 6
    assert "pip install 'gcsfs'" in done.stderr


@pytest.mark.parametrize(
    ("url", "code", "says"),
    [
        ("nonsense://x/y", 2, "cannot be opened"),
        ("s3://no-such-bucket/pets", 2, "no bucket"),
        ("file:///no/such/place", 3, "nothing at"),
    ],
)
def test_a_wrong_url_is_named(make, mlstack, url: str, code: int, says: str):
    done = mlstack(make(url), "version", "pull")

    assert done.returncode == code
    assert says in done.stderr


def test_a_server_that_is_down_is_exit_75(make, mlstack):
    project = make("s3://bucket/pets")

    done = mlstack(project, "version", "pull", AWS_ENDPOINT_URL="http://127.0.0.1:9")

    assert done.returncode == 75


def test_a_password_in_the_url_is_refused(make, mlstack):
    done = mlstack(make("sftp://me:secret@host/pets"), "version", "pull")

    assert done.returncode == 2
    assert "password" in done.stderr


def test_any_other_file_system_goes_through_fsspec(tmp_path: Path, shelf: Path):
    import fsspec

    from mlstack.version.origins import FsspecOrigin

    origin = FsspecOrigin("local://", fsspec.filesystem("file"), str(shelf))

    listed = origin.list()

    assert {name: stamp.size_bytes for name, stamp in listed.items()} == {
        name: len(body) for name, body in FILES.items()
    }
    assert all(stamp.text for stamp in listed.values())
    assert b"".join(origin.read("labels.csv", 5)) == FILES["labels.csv"][5:]
