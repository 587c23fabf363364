"""A real sshd on loopback, for the user who runs the tests, with keys of its own."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path

SSHD = "/usr/sbin/sshd"
CONFIG = """Port {port}
ListenAddress 127.0.0.1
HostKey "{home}/host"
PidFile none
AuthorizedKeysFile "{home}/authorized"
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
MaxStartups 100
{more}
"""


@dataclass
class Ssh:
    """A server that runs, and how to speak to it."""

    home: Path
    port: int
    process: subprocess.Popen[bytes]

    def url(self, folder: Path) -> str:
        """Name a folder as a remote."""
        return f"ssh://{getuser()}@127.0.0.1:{self.port}{folder}"

    @property
    def key(self) -> Path:
        """The key that it takes."""
        return self.home / "key"

    @property
    def environment(self) -> dict[str, str]:
        """What makes `ssh` read no settings of this machine but those of the test."""
        return os.environ | {"PATH": f"{self.home / 'bin'}:{os.environ['PATH']}"}

    def lines(self) -> list[str]:
        """Give what it has logged."""
        return (self.home / "log").read_text().splitlines()


@contextmanager
def serving(home: Path, more: str = "") -> Iterator[Ssh]:
    """Run a server for a block.

    Args:
        home: a folder for its keys and its log.
        more: further lines of its settings.
    """
    home.mkdir(parents=True)
    for name in ("host", "key", "other"):
        make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / name)]
        subprocess.run(make, check=True)
    shutil.copy(home / "key.pub", home / "authorized")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (home / "conf").write_text(CONFIG.format(port=port, home=home, more=more))
    host = (home / "host.pub").read_text().split()
    (home / "known").write_text(f"[127.0.0.1]:{port} {host[0]} {host[1]}\n")
    (home / "ssh.conf").write_text(
        f'UserKnownHostsFile "{home}/known"\nGlobalKnownHostsFile none\nIdentityAgent none\n'
        f'IdentityFile "{home}/key"\n'
    )
    (home / "bin").mkdir()
    wrapper = home / "bin" / "ssh"
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F "{home}/ssh.conf" "$@"\n')
    wrapper.chmod(0o755)
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where it shuts itself in
    with (home / "log").open("wb") as log:
        process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(home / "conf")], stderr=log)
    try:
        for _ in range(200):
            if "Server listening" in (home / "log").read_text():
                break
            assert process.poll() is None, (home / "log").read_text()
            time.sleep(0.02)
        yield Ssh(home, port, process)
    finally:
        process.terminate()
        process.wait()
