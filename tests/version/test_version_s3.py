"""Push and pull on S3, against a real server, side by side with stock DVC."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from s3_server import S3, serving
from version.remote_contract import RemoteContract

from mlstack.records import data_folder
from mlstack.version import remote as remotes
from mlstack.version import s3 as own

IMAGES = 80
OBJECTS = IMAGES + 2  # and the labels, and the list


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with serving() as server:
        yield server


@pytest.fixture
def bucket(s3: S3, request: pytest.FixtureRequest) -> str:
    name = f"b{abs(hash(request.node.name)) % 10**12}"
    s3.client().create_dir(name)
    return name


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, project_maker) -> Path:
    folder = project_maker(tmp_path_factory.mktemp("s3") / "digits", images=IMAGES)
    command = [sys.executable, "-m", "mlstack", "version", "snapshot", "-m", "first"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def here(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "here", symlinks=True))


@pytest.fixture
def there(original: Path, tmp_path: Path) -> Path:
    """A clone, without the data."""
    folder = tmp_path / "there"
    subprocess.run(["git", "clone", "-q", str(original), str(folder)], check=True)
    return folder


Mlstack = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def mlstack(s3: S3, bucket: str) -> Mlstack:
    def run(folder: Path, *words: str, url: str | None = None, **environment: str | None):
        env = {k: v for k, v in (s3.environment | environment).items() if v is not None}
        where = ["--set", f"versioning.remote={url or f's3://{bucket}/deep/er'}"]
        command = [sys.executable, "-m", "mlstack", "version", *words, *where]
        return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)

    return run


@pytest.fixture
def stock(s3: S3, bucket: str) -> Mlstack:
    def run(folder: Path, *words: str):
        for command in (
            ["remote", "add", "-f", "-d", "--local", "s", f"s3://{bucket}/deep/er"],
            ["remote", "modify", "--local", "s", "endpointurl", s3.endpoint],
            list(words),
        ):
            done = subprocess.run(
                [sys.executable, "-m", "dvc", *command],
                cwd=folder, env=s3.environment, capture_output=True, text=True,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
        return done

    return run


def answer(done: subprocess.CompletedProcess[str]) -> dict:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def content(folder: Path) -> dict[str, bytes]:
    data = folder / "data" / "digits"
    return {name: (data / name).read_bytes() for name in data_folder.list_files(data)}


def cached(folder: Path) -> list[Path]:
    return [path for path in (folder / ".dvc/cache/files/md5").rglob("*") if path.is_file()]


class TestS3Remote(RemoteContract):
    @pytest.fixture
    def remote(self, s3: S3, bucket: str) -> remotes.Remote:
        options = {
            "url": f"s3://{bucket}/any where/ü",
            "endpointurl": s3.endpoint,
            "access_key_id": "tester",
            "secret_access_key": "secret",
        }
        found = own.connect(options)
        assert found is not None
        return found


@pytest.mark.slow
def test_stock_dvc_pulls_what_mlstack_pushed(here: Path, there: Path, mlstack, stock):
    done = answer(mlstack(here, "push", "--json"))

    stock(there, "pull", "data/digits.dvc")

    assert done["objects"] == OBJECTS
    assert content(there) == content(here)


@pytest.mark.slow
def test_mlstack_pulls_what_stock_dvc_pushed(here: Path, there: Path, mlstack, stock):
    stock(here, "push", "data/digits.dvc")

    done = answer(mlstack(there, "pull", "--json"))

    assert done["objects"] == OBJECTS
    assert content(there) == content(here)
    assert {path.stat().st_mode & 0o777 for path in cached(there)} == {0o444}
    assert "up to date" in stock(there, "status").stdout


def test_stock_dvc_finds_nothing_to_push_after_mlstack(here: Path, mlstack, stock):
    mlstack(here, "push")

    assert "Everything is up to date" in stock(here, "push", "data/digits.dvc").stdout


@pytest.mark.slow
def test_a_second_push_and_pull_move_no_byte(here: Path, there: Path, mlstack, s3: S3):
    mlstack(here, "push")
    mlstack(there, "pull")
    before = s3.tell()

    pushed = answer(mlstack(here, "push", "--json"))
    pulled = answer(mlstack(there, "pull", "--json"))

    after = s3.tell()
    assert (pushed["objects"], pushed["size_bytes"]) == (0, 0)
    assert (pulled["objects"], pulled["size_bytes"]) == (0, 0)
    assert (after["put"], after["get"]) == (before["put"], before["get"])
    assert "nothing new (0 B)" in mlstack(here, "push").stdout


@pytest.mark.slow
def test_an_object_is_one_request_to_push_and_two_to_pull(here, there, mlstack, s3: S3):
    start = s3.tell()["requests"]
    mlstack(here, "push")
    pushed = s3.tell()["requests"]
    mlstack(there, "pull")

    assert pushed - start < OBJECTS + 8
    assert s3.tell()["requests"] - pushed < 2 * OBJECTS + 8


@pytest.mark.slow
def test_a_push_that_fails_half_way_goes_on_and_sends_the_list_last(
    here, there, mlstack, stock, s3, bucket
):
    s3.tell(fail_after=40, method="PUT", status=503, code="SlowDown")
    failed = mlstack(here, "push")
    stored = s3.objects(bucket)
    s3.tell()

    again = answer(mlstack(here, "push", "--json"))

    assert failed.returncode == 75
    assert "SLOW_DOWN" in failed.stderr
    assert "try again" in failed.stderr
    assert 40 <= len(stored) < OBJECTS
    assert not [key for key in stored if key.endswith(".dir")]
    assert again["objects"] == OBJECTS - len(stored)
    stock(there, "pull", "data/digits.dvc")
    assert content(there) == content(here)


@pytest.mark.slow
def test_a_pull_that_fails_half_way_leaves_whole_files_and_goes_on(here, there, mlstack, s3):
    mlstack(here, "push")
    s3.tell(fail_after=60, method="GET", status=503, code="SlowDown")
    failed = mlstack(there, "pull")
    s3.tell()
    kept, laid_out = cached(there), (there / "data" / "digits").exists()

    again = answer(mlstack(there, "pull", "--json"))

    assert failed.returncode == 75
    assert not laid_out
    assert all(path.parent.name + path.name == dvc_md5(path) for path in kept)
    assert 0 < len(kept) < OBJECTS
    assert again["objects"] == OBJECTS - len(kept)
    assert content(there) == content(here)


def dvc_md5(path: Path) -> str:
    from mlstack import files

    return files.md5(path)


@pytest.mark.slow
def test_a_server_that_dies_half_way_is_exit_75(here, there, mlstack, tmp_path):
    with serving() as dying:
        dying.client().create_dir("bucket")
        place = {"url": "s3://bucket/x", "AWS_ENDPOINT_URL": dying.endpoint}
        assert mlstack(here, "push", **place).returncode == 0
        dying.tell(fail_after=50, method="GET", die=True)

        done = mlstack(there, "pull", **place)

    assert done.returncode == 75
    assert "cannot be reached" in done.stderr
    assert not [path for path in cached(there) if path.name.endswith(".dir")]
    assert all(path.parent.name + path.name == dvc_md5(path) for path in cached(there))


@pytest.mark.slow
def test_a_pusher_killed_at_any_moment_goes_on(here, there, mlstack, stock, s3, bucket):
    command = [sys.executable, "-m", "mlstack", "version", "push"]
    where = ["--set", f"versioning.remote=s3://{bucket}/deep/er"]
    start = s3.tell()["put"]
    with subprocess.Popen([*command, *where], cwd=here, env=s3.environment) as pusher:
        while s3.tell()["put"] < start + 20 and pusher.poll() is None:
            time.sleep(0.005)
        pusher.send_signal(signal.SIGKILL)
    stored = s3.objects(bucket)

    assert mlstack(here, "push").returncode == 0

    assert all(files_md5(body) == name_of(key) for key, body in stored.items())
    stock(there, "pull", "data/digits.dvc")
    assert content(there) == content(here)


def files_md5(body: bytes) -> str:
    import hashlib

    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def name_of(key: str) -> str:
    return "".join(key.split("/")[-2:]).removesuffix(".dir")


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("InvalidAccessKeyId", "does not know this access key"),
        ("SignatureDoesNotMatch", "the secret key is wrong"),
        ("ExpiredToken", "the session token has expired"),
        ("AccessDenied", "refuses these keys"),
    ],
)
def test_refused_keys_are_exit_2(here: Path, mlstack, s3: S3, code: str, says: str):
    s3.tell(fail_after=0, status=403, code=code)
    done = mlstack(here, "push")
    s3.tell()

    assert done.returncode == 2
    assert says in done.stderr
    assert "AWS_ACCESS_KEY_ID" in done.stderr


def test_a_wrong_bucket_is_exit_2(here: Path, mlstack):
    done = mlstack(here, "push", url="s3://no-such-bucket/x")

    assert done.returncode == 2
    assert "no bucket `no-such-bucket`" in done.stderr


def test_no_keys_at_all_are_exit_2(here: Path, mlstack):
    done = mlstack(here, "push", AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None)

    assert done.returncode == 2
    assert "credentials" in done.stderr


def test_nobody_listening_is_exit_75(here: Path, mlstack):
    done = mlstack(here, "push", AWS_ENDPOINT_URL="http://127.0.0.1:9")

    assert done.returncode == 75
    assert "cannot be reached" in done.stderr


@pytest.mark.slow
def test_a_damaged_object_of_the_remote_is_not_taken(here, there, mlstack, s3, bucket):
    mlstack(here, "push")
    key = next(key for key in s3.objects(bucket) if not key.endswith(".dir"))
    with s3.client().open_output_stream(f"{bucket}/{key}") as stream:
        stream.write(b"something else")

    done = mlstack(there, "pull")

    assert done.returncode == 3
    assert name_of(key) in done.stderr
    assert name_of(key) not in {path.parent.name + path.name for path in cached(there)}


@pytest.mark.slow
def test_a_cut_object_of_the_remote_is_sent_again(here, there, mlstack, s3, bucket):
    mlstack(here, "push")
    key = next(key for key in s3.objects(bucket) if not key.endswith(".dir"))
    with s3.client().open_output_stream(f"{bucket}/{key}") as stream:
        stream.write(b"cut")

    done = answer(mlstack(here, "push", "--json"))

    assert done["objects"] == 1
    assert mlstack(there, "pull").returncode == 0


def test_a_damaged_object_of_the_cache_is_not_pushed(here: Path, mlstack, s3, bucket):
    path = next(path for path in cached(here) if not path.name.endswith(".dir"))
    path.chmod(0o644)
    path.write_bytes(b"damaged")

    done = mlstack(here, "push")

    assert done.returncode == 3
    assert str(path.relative_to(here)) in done.stderr
    assert path.parent.name + path.name not in map(name_of, s3.objects(bucket))


@pytest.mark.slow
def test_a_remote_that_lacks_a_file_is_exit_3(here, there, mlstack, s3, bucket):
    mlstack(here, "push")
    key = next(key for key in s3.objects(bucket) if not key.endswith(".dir"))
    s3.client().delete_file(f"{bucket}/{key}")

    done = mlstack(there, "pull")

    assert done.returncode == 3
    assert "lacks 1 object of" in done.stderr


@pytest.mark.slow
def test_all_versions_are_pushed_when_asked(here: Path, there: Path, mlstack, s3, bucket):
    image = here / "data" / "digits" / "images" / "0000.png"
    image.unlink()
    image.write_bytes(b"another picture")
    snapshot = [sys.executable, "-m", "mlstack", "version", "snapshot", "-m", "second"]
    subprocess.run(snapshot, cwd=here, check=True, capture_output=True)

    done = answer(mlstack(here, "push", "--all", "--json"))

    assert done["objects"] == OBJECTS + 2
    assert len([key for key in s3.objects(bucket) if key.endswith(".dir")]) == 2


def test_endpoint_and_keys_may_stand_in_dvcs_own_config(here: Path, s3: S3, bucket: str):
    (here / ".dvc" / "config.local").write_text(
        f"[core]\n    remote = far\n['remote \"far\"']\n    url = s3://{bucket}/deep/er\n"
        f"    endpointurl = {s3.endpoint}\n    access_key_id = tester\n"
        "    secret_access_key = secret\n"
    )
    env = {k: v for k, v in s3.environment.items() if k.startswith("AWS_") is False}
    command = [sys.executable, "-m", "mlstack", "version", "push", "--json"]

    done = subprocess.run(command, cwd=here, env=env, capture_output=True, text=True)

    assert answer(done)["size_bytes"] > 0
    assert len(s3.objects(bucket)) == OBJECTS


@pytest.mark.slow
def test_an_option_that_mlstack_does_not_know_is_left_to_dvc(here, there, mlstack, s3, bucket):
    (here / ".dvc" / "config.local").write_text(
        f"['remote \"far\"']\n    url = s3://{bucket}/deep/er\n    sse = AES256\n"
    )

    done = answer(mlstack(here, "push", "--json"))

    assert done["size_bytes"] is None  # DVC does not count bytes
    assert len(s3.objects(bucket)) == OBJECTS
    assert mlstack(there, "pull").returncode == 0


def test_a_pointer_of_dvc_2_is_left_to_dvc(here: Path, mlstack):
    pointer = here / "data" / "digits.dvc"
    pointer.write_text(pointer.read_text().replace("  hash: md5\n", ""))

    done = mlstack(here, "push", "--json")

    assert answer(done)["size_bytes"] is None  # its objects lie elsewhere, in cache and remote


@pytest.mark.slow
def test_a_slash_at_the_end_of_the_url_changes_nothing(here, there, mlstack, bucket):
    mlstack(here, "push")

    done = answer(mlstack(there, "pull", "--json", url=f"s3://{bucket}/deep/er/"))

    assert done["objects"] == OBJECTS


@pytest.mark.slow
def test_a_large_file_goes_in_parts_and_comes_back(here, there, mlstack, s3):
    big = here / "data" / "digits" / "big.bin"
    big.write_bytes(b"".join(number.to_bytes(4, "big") for number in range(5 << 20)))
    snapshot = [sys.executable, "-m", "mlstack", "version", "snapshot", "-m", "big"]
    subprocess.run(snapshot, cwd=here, check=True, capture_output=True)
    mlstack(here, "push")
    subprocess.run(["git", "pull", "-q", str(here)], cwd=there, check=True)

    done = mlstack(there, "pull")

    assert done.returncode == 0, done.stderr
    assert content(there) == content(here)
