"""A real Postgres on loopback, started by the tests from Debian's package as nobody."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

PASSWORD = "only for tests"


@dataclass
class Postgres:
    """A server that runs."""

    port: int
    process: subprocess.Popen[bytes]

    def url(self, database: str = "postgres") -> str:
        """Give the address without the password."""
        return f"postgresql://owner@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """Open a connection that commits each statement."""
        return psycopg.connect(self.url(database), password=PASSWORD, autocommit=True)


def programs() -> Path:
    """Find the folder of initdb, newest version first."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)
    where = found[0] if found else shutil.which("initdb")
    assert where, "the tests need Debian's package `postgresql`; type: make system"
    return Path(where).parent


@contextmanager
def serving() -> Iterator[Postgres]:
    """Run a server for a block; root may not run one, so it is nobody's."""
    who = {"user": "nobody", "group": "nogroup"} if os.getuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="mlstack-postgres-"))
    secret, data = folder / "secret", folder / "data"
    secret.write_text(PASSWORD)
    if who:
        account = pwd.getpwnam("nobody")
        for path in (folder, secret):
            os.chown(path, account.pw_uid, account.pw_gid)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    access = ["-U", "owner", "-A", "scram-sha-256", "--pwfile", secret]
    subprocess.run(
        [programs() / "initdb", "-D", data, *access, "-E", "UTF8", "--locale", "C", "--no-sync"],
        check=True, capture_output=True, cwd=folder, **who,
    )  # fmt: skip
    options = ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-p", str(port), "-k", folder]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [programs() / "postgres", "-D", data, *options],
            stdout=log, stderr=log, cwd=folder, **who,
        )  # fmt: skip
    try:
        _wait(port, process, folder / "log")
        yield Postgres(port, process)
    finally:
        process.send_signal(signal.SIGQUIT)  # at once, and its children with it
        process.wait(30)
        shutil.rmtree(folder)


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        assert process.poll() is None, log.read_text()
        try:
            Postgres(port, process).connect().close()
            return
        except psycopg.OperationalError:
            time.sleep(0.1)
    raise AssertionError(log.read_text())
