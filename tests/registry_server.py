"""A real OCI registry (Debian's docker-registry) on loopback, in a process of its own."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from fixed_ports import free

USER, PASSWORD = "tester", "secret"
# The password's bcrypt hash, as `htpasswd -B` writes it.
HTPASSWD = f"{USER}:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"
CONFIG = """
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {folder}/store}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""
AUTH = "auth: {{htpasswd: {{realm: tests, path: {folder}/htpasswd}}}}\n"
TOKEN = (
    "auth: {{token: {{realm: '{realm}', service: tests, issuer: tests, "
    "rootcertbundle: {folder}/certificate.pem}}}}\n"
)


@dataclass
class OciRegistry:
    """A registry that runs, and where."""

    host: str
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def blobs(self) -> Path:
        """Give the folder of its blobs, one folder each."""
        return self.folder / "store/docker/registry/v2/blobs/sha256"


@contextmanager
def registry(folder: Path, *, asks_who: bool = False, realm: str = "") -> Iterator[OciRegistry]:
    """Start a registry that asks for a password, or for a token of a realm; end it afterwards."""
    (port,) = free(1)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "htpasswd").write_text(HTPASSWD)
    auth = TOKEN if realm else AUTH if asks_who else ""
    text = (CONFIG + auth).format(folder=folder, port=port, realm=realm)
    (folder / "config.yml").write_text(text)
    log = (folder / "log").open("wb")
    with subprocess.Popen(
        ["docker-registry", "serve", str(folder / "config.yml")], stdout=log, stderr=log
    ) as process:
        try:
            _wait(f"http://127.0.0.1:{port}/v2/", folder / "log")
            yield OciRegistry(f"127.0.0.1:{port}", folder, process)
        finally:
            process.terminate()
            log.close()


def _wait(address: str, log: Path) -> None:
    for _ in range(200):
        try:
            httpx.get(address, trust_env=False)
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(log.read_text())
