"""Push and pull over SSH, against a real sshd, side by side with stock DVC."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from getpass import getuser
from pathlib import Path

import pytest
from ssh_server import SSHD, Ssh, serving

from mlstack import files
from mlstack.errors import DataError
from mlstack.records import data_folder
from mlstack.version import ssh as own
from mlstack.version.remote import Outgoing

pytestmark = pytest.mark.skipif(not Path(SSHD).is_file(), reason="needs openssh-server")

IMAGES = 60
OBJECTS = IMAGES + 2  # and the labels, and the list
NAME = "0123456789abcdef0123456789abcdef"
LIST = "00cdefabcdefabcdefabcdefabcdefab.dir"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ssh]:
    with serving(tmp_path_factory.mktemp("sshd") / "one home") as running:
        yield running


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, project_maker) -> Path:
    folder = project_maker(tmp_path_factory.mktemp("ssh") / "digits", images=IMAGES)
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


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The folder of the remote; it is not there yet."""
    return tmp_path / "a store's $HOME" / "deep"


@pytest.fixture
def mlstack(server: Ssh, store: Path) -> Run:
    def run(folder: Path, *words: str, url: str = "", server: Ssh = server):
        where = ["--set", f"versioning.remote={url or server.url(store)}"]
        command = [sys.executable, "-m", "mlstack", "version", *words, *where]
        return subprocess.run(
            command, cwd=folder, env=server.environment, capture_output=True, text=True
        )

    return run


@pytest.fixture
def stock(server: Ssh, store: Path) -> Run:
    def run(folder: Path, *words: str):
        for command in (
            ["remote", "add", "-f", "-d", "--local", "s", server.url(store)],
            ["remote", "modify", "--local", "s", "keyfile", str(server.key)],
            list(words),
        ):
            done = subprocess.run(
                [sys.executable, "-m", "dvc", *command], cwd=folder, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture
def remote(server: Ssh, store: Path, monkeypatch) -> own.SshRemote:
    monkeypatch.setenv("PATH", server.environment["PATH"])
    found = own.connect({"url": server.url(store)})
    assert found is not None
    return found


def answer(done: subprocess.CompletedProcess[str]) -> dict:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def content(folder: Path) -> dict[str, bytes]:
    data = folder / "data" / "digits"
    return {name: (data / name).read_bytes() for name in data_folder.list_files(data)}


def objects(store: Path) -> dict[str, Path]:
    base = store / "files" / "md5"
    return {p.parent.name + p.name: p for p in base.rglob("*") if p.is_file()}


def assert_whole(store: Path) -> None:
    """Each object has the content that its name says, and no list names what is not there."""
    there = objects(store)
    for name, path in there.items():
        assert name.removesuffix(".dir") == files.md5(path)
    for name, path in there.items():
        if name.endswith(".dir"):
            assert {entry["md5"] for entry in json.loads(path.read_bytes())} <= there.keys()


def outgoing(md5: str, *chunks: bytes) -> Outgoing:
    return Outgoing(md5, sum(map(len, chunks)), chunks)


class TestSshRemote:
    def test_what_was_sent_is_read_back(self, remote):
        list(remote.send([outgoing(NAME, b"first, ", b"second"), outgoing(LIST, b"[]")]))

        assert b"".join(remote.read(NAME)) == b"first, second"
        assert remote.sizes([NAME, LIST, "f" * 32]) == {NAME: 13, LIST: 2}

    def test_many_come_in_one_stream_and_each_has_its_bytes(self, remote):
        wanted = {f"{number:032x}": os.urandom(number * 97) for number in range(300)}
        list(remote.send(outgoing(name, body) for name, body in wanted.items()))

        sizes = remote.sizes(wanted)
        received = {name: b"".join(chunks) for name, chunks in remote.receive(sizes)}

        assert received == wanted

    def test_an_empty_object_is_an_object(self, remote):
        list(remote.send([outgoing(NAME)]))

        assert remote.sizes([NAME]) == {NAME: 0}
        assert b"".join(remote.read(NAME)) == b""

    def test_sending_again_replaces(self, remote):
        list(remote.send([outgoing(NAME, b"half")]))
        list(remote.send([outgoing(NAME, b"the whole")]))

        assert b"".join(remote.read(NAME)) == b"the whole"

    def test_a_large_object_survives(self, remote):
        body = os.urandom(7 << 20)
        list(
            remote.send(
                [outgoing(NAME, *(body[at : at + 999_999] for at in range(0, 7 << 20, 999_999)))]
            )
        )

        assert b"".join(b"".join(chunks) for _, chunks in remote.receive({NAME: 7 << 20})) == body

    def test_a_remote_that_is_not_there_yet_holds_nothing(self, remote):
        assert remote.sizes([NAME]) == {}

    @pytest.mark.parametrize("size", [10, 6 << 20])
    def test_a_source_that_breaks_leaves_no_object(self, remote, store, size):
        def breaking() -> Iterator[bytes]:
            yield b"x" * size
            raise OSError("the disk is gone")

        with pytest.raises(OSError, match="the disk is gone"):
            list(remote.send([outgoing(LIST, b"[]"), Outgoing(NAME, size * 2, breaking())]))

        assert remote.sizes([NAME, LIST]) == {}
        assert is_empty_soon(store)

    def test_an_object_that_is_shorter_than_said_is_refused(self, remote, store):
        with pytest.raises(DataError, match="changes while it is pushed"):
            list(remote.send([Outgoing(NAME, 100, [b"short"])]))

        assert remote.sizes([NAME]) == {}

    def test_what_is_sent_in_several_streams_is_there_as_a_whole(self, remote, monkeypatch):
        monkeypatch.setattr(own, "BATCH", 7)
        wanted = {f"{number:032x}": b"%d" % number for number in range(30)}

        list(remote.send(outgoing(name, body) for name, body in wanted.items()))

        assert remote.sizes(wanted).keys() == wanted.keys()


def is_empty_soon(store: Path) -> bool:
    """Tell whether the other side clears away what a broken connection left."""
    for _ in range(100):
        if not list((store / "files").glob(".mlstack-*")):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.slow
def test_stock_dvc_pulls_what_mlstack_pushed(here, there, mlstack, stock, store):
    done = answer(mlstack(here, "push", "--json"))

    stock(there, "pull", "data/digits.dvc")

    assert done["objects"] == OBJECTS
    assert content(there) == content(here)
    assert_whole(store)


@pytest.mark.slow
def test_mlstack_pulls_what_stock_dvc_pushed(here, there, mlstack, stock):
    stock(here, "push", "data/digits.dvc")

    done = answer(mlstack(there, "pull", "--json"))

    assert done["objects"] == OBJECTS
    assert done["size_bytes"] > 0
    assert content(there) == content(here)
    cached = objects(there / ".dvc" / "cache").values()
    assert {stat.S_IMODE(path.stat().st_mode) for path in cached} == {0o444}
    assert "up to date" in stock(there, "status").stdout


@pytest.mark.slow
def test_both_leave_the_same_objects_in_the_same_places(here, mlstack, stock, store):
    mlstack(here, "push")
    ours = {name: path.relative_to(store) for name, path in objects(store).items()}
    assert "Everything is up to date" in stock(here, "push", "data/digits.dvc").stdout
    shutil.rmtree(store)

    stock(here, "push", "data/digits.dvc")

    assert {name: path.relative_to(store) for name, path in objects(store).items()} == ours


def test_a_second_push_and_pull_move_no_byte(here, there, mlstack, store):
    mlstack(here, "push")
    mlstack(there, "pull")
    before = {name: path.stat().st_mtime_ns for name, path in objects(store).items()}

    pushed = answer(mlstack(here, "push", "--json"))
    pulled = answer(mlstack(there, "pull", "--json"))

    assert (pushed["objects"], pushed["size_bytes"]) == (0, 0)
    assert (pulled["objects"], pulled["size_bytes"]) == (0, 0)
    assert {name: path.stat().st_mtime_ns for name, path in objects(store).items()} == before


def test_a_push_takes_three_connections_and_a_pull_five(here, there, mlstack, server):
    def connections() -> int:
        return sum("Accepted publickey" in line for line in server.lines())

    start = connections()
    mlstack(here, "push")
    pushed = connections()
    mlstack(there, "pull")

    assert pushed - start <= 3
    assert connections() - pushed <= 5


def test_a_connection_that_the_user_keeps_open_is_used(here, there, mlstack, server, store):
    config = server.home / "ssh.conf"
    plain = config.read_text()
    start = sum("Accepted publickey" in line for line in server.lines())
    with tempfile.TemporaryDirectory(dir="/tmp") as short:  # sockets have short names
        config.write_text(f"{plain}ControlMaster auto\nControlPersist 3\nControlPath {short}/%C\n")
        pushed = mlstack(here, "push")
        pulled = mlstack(there, "pull")
    config.write_text(plain)

    assert (pushed.returncode, pulled.returncode) == (0, 0), pushed.stderr + pulled.stderr
    assert sum("Accepted publickey" in line for line in server.lines()) - start == 1
    assert_whole(store)


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.35, 0.45, 0.55, 0.7])
def test_a_push_killed_at_any_moment_leaves_only_whole_objects(
    here, there, mlstack, server, store, after_s
):
    command = [sys.executable, "-m", "mlstack", "version", "push"]
    where = ["--set", f"versioning.remote={server.url(store)}"]
    with subprocess.Popen([*command, *where], cwd=here, env=server.environment) as pusher:
        time.sleep(after_s)
        pusher.send_signal(signal.SIGKILL)

    assert_whole(store)
    assert answer(mlstack(here, "push", "--json"))["ok"]
    assert_whole(store)
    assert is_empty_soon(store)
    assert mlstack(there, "pull").returncode == 0
    assert content(there) == content(here)


@pytest.mark.slow
def test_a_connection_that_breaks_half_way_is_75_and_the_next_push_goes_on(here, mlstack, store):
    """The other side's tar stops half way; what it unpacked has no name yet."""
    big = here / "data" / "digits" / "big.bin"
    big.write_bytes(os.urandom(64 << 20))
    snapshot = [sys.executable, "-m", "mlstack", "version", "snapshot", "-m", "big"]
    subprocess.run(snapshot, cwd=here, check=True, capture_output=True)
    home = here.parent / "dying"
    with serving(home) as dying:
        tar = home / "bin" / "tar"
        tar.write_text("#!/bin/sh\nhead -c 9000000 >/dev/null\nkill -9 $PPID\n")
        tar.chmod(0o755)
        (home / "authorized").write_text(
            f'command="PATH={home}/bin:$PATH; eval \\"$SSH_ORIGINAL_COMMAND\\"" '
            + (home / "key.pub").read_text()
        )
        broken = mlstack(here, "push", "--json", server=dying)
    left = objects(store)

    again = answer(mlstack(here, "push", "--json"))

    assert broken.returncode == 75
    assert "try again" in json.loads(broken.stdout)["error"]["hint"]
    assert left == {}
    assert again["objects"] == OBJECTS + 1
    assert_whole(store)


def test_a_login_that_says_something_first_spoils_nothing(here, there, mlstack, tmp_path):
    with serving(tmp_path / "noisy") as noisy:
        (noisy.home / "authorized").write_text(
            'command="echo Welcome to this machine; eval \\"$SSH_ORIGINAL_COMMAND\\"" '
            + (noisy.home / "key.pub").read_text()
        )

        pushed = mlstack(here, "push", server=noisy)
        pulled = mlstack(there, "pull", server=noisy)

    assert (pushed.returncode, pulled.returncode) == (0, 0), pushed.stderr + pulled.stderr
    assert content(there) == content(here)


@pytest.mark.parametrize(
    "url",
    [
        "ssh://-oProxyCommand=touch hacked/x",
        "ssh://`touch hacked`@host/x",
        "ssh://host:port/x",
        "ssh://user:password@host/x",
        "ssh://host",
    ],
)
def test_a_url_that_is_no_plain_one_never_reaches_ssh(url: str):
    assert own.connect({"url": url}) is None


@pytest.mark.slow
def test_a_server_that_allows_sftp_only_is_left_to_dvc(here, there, mlstack, tmp_path, store):
    with serving(tmp_path / "sftp only", "ForceCommand internal-sftp") as plain:
        (here / ".dvc" / "config.local").write_text(
            f"['remote \"s\"']\n    url = {plain.url(store)}\n    keyfile = {plain.key}\n"
        )

        done = answer(mlstack(here, "push", "--json", server=plain))

    assert done["size_bytes"] is None  # DVC does not count bytes
    assert len(objects(store)) == OBJECTS


@pytest.mark.slow
@pytest.mark.parametrize("option", ["password = x", "ask_password = true", "allow_agent = false"])
def test_an_option_that_mlstack_does_not_know_is_left_to_dvc(server: Ssh, option, store):
    name, value = option.split(" = ")

    assert own.connect({"url": server.url(store), name: value}) is None


def test_user_port_and_key_may_stand_in_dvcs_own_config(here, server: Ssh, store):
    shutil.copy(server.key, here / ".dvc" / "its key")
    (here / ".dvc" / "config.local").write_text(
        f"[core]\n    remote = far\n['remote \"far\"']\n    url = ssh://nobody@127.0.0.1:1{store}\n"
        f"    user = {getuser()}\n    port = {server.port}\n    keyfile = its key\n"
    )
    config = server.home / "ssh.conf"
    plain = config.read_text()
    config.write_text(plain.replace("/key", "/other"))
    command = [sys.executable, "-m", "mlstack", "version", "push", "--json"]
    try:
        done = subprocess.run(
            command, cwd=here, env=server.environment, capture_output=True, text=True
        )
    finally:
        config.write_text(plain)

    assert answer(done)["objects"] == OBJECTS
    assert len(objects(store)) == OBJECTS


def refused(done: subprocess.CompletedProcess[str], code: int) -> str:
    error = json.loads(done.stdout)["error"]
    assert done.returncode == error["code"] == code, error
    assert "Traceback" not in done.stderr
    return f"{error['problem']} {error['hint']}"


def test_a_host_that_does_not_exist_is_exit_2(here, mlstack):
    done = mlstack(here, "push", "--json", url="ssh://no-such-host.invalid/x")

    assert "no host `no-such-host.invalid`" in refused(done, 2)


def test_nobody_listening_is_exit_75(here, mlstack):
    done = mlstack(here, "push", "--json", url="ssh://127.0.0.1:9/x")

    assert "cannot be reached" in refused(done, 75)


def test_a_key_that_does_not_fit_is_exit_2(here, mlstack, tmp_path):
    with serving(tmp_path / "strict") as strict:
        shutil.copy(strict.home / "other.pub", strict.home / "authorized")
        done = mlstack(here, "push", "--json", server=strict)

    assert "no key fits ssh-add" in refused(done, 2).replace("type `", "")


def test_a_key_that_is_not_there_is_exit_2(here, mlstack, server: Ssh, store):
    (here / ".dvc" / "config.local").write_text(
        f"['remote \"s\"']\n    url = {server.url(store)}\n    keyfile = none\n"
    )

    done = mlstack(here, "push", "--json")

    assert f"no key `{here}/.dvc/none`" in refused(done, 2)


def test_a_host_whose_key_is_unknown_or_another_is_exit_2(here, mlstack, tmp_path):
    with serving(tmp_path / "stranger") as stranger:
        known = stranger.home / "known"
        (line,) = known.read_text().splitlines()
        known.write_text("")
        unknown = mlstack(here, "push", "--json", server=stranger)
        other = (stranger.home / "other.pub").read_text().split()
        known.write_text(f"{line.split()[0]} {other[0]} {other[1]}\n")
        changed = mlstack(here, "push", "--json", server=stranger)

    assert "does not know the key of the host" in refused(unknown, 2)
    assert f"-p {stranger.port} {getuser()}@127.0.0.1" in refused(changed, 2)


@pytest.mark.parametrize("direction", ["push", "pull"])
def test_a_folder_that_nobody_may_use_is_exit_2_or_said_to_lack_it(
    here, there, mlstack, direction, server: Ssh
):
    folder = here if direction == "push" else there

    done = mlstack(folder, direction, "--json", url=server.url(Path("/proc/nowhere")))

    said = refused(done, {"push": 2, "pull": 3}[direction])
    assert "/proc/nowhere" in said


@pytest.mark.slow
def test_a_full_disk_there_is_exit_6_and_no_object_is_half_there(here, mlstack, tmp_path, server):
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=120k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a disk that is small enough to fill")
    try:
        done = mlstack(here, "push", "--json", url=server.url(place / "store"))

        assert "the disk of" in refused(done, 6)
        assert objects(place / "store") == {}
        assert is_empty_soon(place / "store")
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_damaged_object_of_the_cache_is_not_pushed(here, mlstack, store):
    path = next(p for n, p in objects(here / ".dvc" / "cache").items() if not n.endswith(".dir"))
    path.chmod(0o644)
    path.write_bytes(b"damaged")

    done = mlstack(here, "push", "--json")

    assert str(path.relative_to(here)) in refused(done, 3)
    assert_whole(store)
    assert path.parent.name + path.name not in objects(store)


@pytest.mark.parametrize("size", [5, 60_000])
def test_a_damaged_object_of_the_remote_is_not_taken(here, there, mlstack, store, size):
    mlstack(here, "push")
    name, path = next((n, p) for n, p in objects(store).items() if not n.endswith(".dir"))
    path.write_bytes(b"x" * size)

    done = mlstack(there, "pull", "--json")

    assert name in refused(done, 3)
    assert name not in objects(there / ".dvc" / "cache")
    assert_whole(there / ".dvc" / "cache")


def test_a_cut_object_of_the_remote_is_sent_again(here, there, mlstack, store):
    mlstack(here, "push")
    next(p for n, p in objects(store).items() if not n.endswith(".dir")).write_bytes(b"cut")

    done = answer(mlstack(here, "push", "--json"))

    assert done["objects"] == 1
    assert mlstack(there, "pull").returncode == 0


def test_a_remote_that_lacks_a_file_is_exit_3(here, there, mlstack, store):
    mlstack(here, "push")
    next(p for n, p in objects(store).items() if not n.endswith(".dir")).unlink()

    done = mlstack(there, "pull", "--json")

    assert "lacks 1 object of" in refused(done, 3)


def test_what_a_broken_push_left_a_day_ago_is_cleared_away(here, mlstack, store):
    left = store / "files" / ".mlstack-old" / "files"
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"half")
    young = store / "files" / ".mlstack-young"
    young.mkdir()
    old = time.time() - 3 * 86_400
    os.utime(left.parent, (old, old))

    mlstack(here, "push")

    assert not left.parent.exists()
    assert young.exists()
