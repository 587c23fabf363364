"""A real cluster of Ray on loopback: a head and a second node, with one core each."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import fixed_ports
import psutil

from mlstack.launch import tether

RAY = str(Path(sys.executable).with_name("ray"))
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),  # else one is written into the home of the user
}


@dataclass
class Cluster:
    """A cluster that runs."""

    address: str

    @property
    def environment(self) -> dict[str, str]:
        """What makes mlstack train on it."""
        return os.environ | SETTINGS | {"RAY_ADDRESS": self.address, "OMP_NUM_THREADS": "1"}


@contextmanager
def serving(unseen: Path | None = None) -> Iterator[Cluster]:
    """Run a cluster of two nodes for a block.

    Args:
        unseen: a folder that the second node does not see; only root can have that.
    """
    port = fixed_ports.free(1)[0]
    address = f"127.0.0.1:{port}"
    # Short: Ray makes sockets below it, whose names may not be long.
    with (
        ExitStack() as running,
        tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as home,
    ):
        head = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={home}"]
        running.enter_context(_node(Path(home), "127.0.0.1", *head))
        hide = f"mount -t tmpfs none '{unseen}' && exec \"$@\""
        hidden = [shutil.which("unshare"), "--mount", "sh", "-c", hide, "hide"] if unseen else []
        second = _node(Path(home), "127.0.0.2", f"--address={address}", before=hidden)
        running.enter_context(second)
        yield Cluster(address)


@contextmanager
def _node(home: Path, ip: str, *words: str, before: Sequence[str] = ()) -> Iterator[None]:
    log = home / f"{ip}.out"
    common = [f"--node-ip-address={ip}", "--num-cpus=1", "--object-store-memory=80000000"]
    start = [sys.executable, RAY, "start", "--block", "--disable-usage-stats"]
    command = [*before, *start, *common, *words]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            tether.tied(signal.SIGTERM, command), stdin=subprocess.DEVNULL, stdout=stream,
            stderr=stream, env=os.environ | SETTINGS, start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while b"Ray runtime started" not in log.read_bytes():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield
    finally:
        with suppress(psutil.NoSuchProcess):
            for one in psutil.Process(process.pid).children(recursive=True):
                one.kill()
        process.kill()
        process.wait()
