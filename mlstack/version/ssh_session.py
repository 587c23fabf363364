"""One script that runs on another machine, by the system's `ssh`, and what its failures mean."""

import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Self

from mlstack.errors import BusyError, ConfigError, MachineError, MlstackError

CONNECT_S = 15
ALIVE_S = 15  # after three times of which without an answer the connection is given up
LOST = 255  # what ssh itself ends with
SETTINGS = (
    "BatchMode=yes",  # nobody is asked for anything
    "ClearAllForwardings=yes",
    "RemoteCommand=none",
    f"ServerAliveInterval={ALIVE_S}",
)
UNKNOWN = ("Host key verification failed", "REMOTE HOST IDENTIFICATION HAS CHANGED")
NO_HOST = ("Name or service not known", "nodename nor servname", "No address associated")
FULL = ("No space left on device", "quota exceeded", "File too large")
REFUSED = ("Permission denied", "Read-only file system", "Operation not permitted", "cannot create")


@dataclass(frozen=True)
class Login:
    """Whom to ask; what is None is left to the user's own settings of ssh."""

    url: str
    host: str
    user: str | None = None
    port: int | str | None = None
    keyfile: str | None = None
    timeout_s: int | str | None = None

    def has_client(self) -> bool:
        """Tell whether this machine has ssh."""
        return shutil.which("ssh") is not None

    def command(self, script: str, *words: str) -> list[str]:
        """Give the command that runs a script there, whatever the user's shell is."""
        settings = [*SETTINGS, f"ConnectTimeout={self.timeout_s or CONNECT_S}"]
        command = ["ssh", "-T", *(word for one in settings for word in ("-o", one))]
        if self.user:
            command += ["-l", self.user]
        if self.port:
            command += ["-p", str(self.port)]
        if self.keyfile:
            key = str(Path(self.keyfile).expanduser())
            command += ["-o", "IdentitiesOnly=yes", "-i", key]
        return [*command, "--", self.host, shlex.join(["sh", "-c", script, "sh", *words])]


def run(
    login: Login, script: str, *words: str, given: bytes = b"", may_fail: bool = False
) -> bytes:
    """Run a script there to its end; give its stdout.

    Raises:
        ConfigError: the host is unknown, or it refuses who asks.
        BusyError: it cannot be reached.
        MachineError: its disk is full.
    """
    command = login.command(script, *words)
    # Not a pipe for stderr: a connection that the user's settings keep open would hold it open too.
    with tempfile.TemporaryFile() as said:
        done = subprocess.run(
            command, input=given, stdout=subprocess.PIPE, stderr=said, check=False
        )
        if done.returncode == LOST or (done.returncode and not may_fail):
            said.seek(0)
            raise _failed(login, done.returncode, said.read().decode(errors="replace"))
    return done.stdout


class Session:
    """A script that runs there while this block writes to it or reads from it.

    When the block is left before `finish`, the connection is cut.
    """

    def __init__(self, login: Login, script: str, *words: str, given: bytes = b"") -> None:
        self._login = login
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  closed when the block is left
        self._process = subprocess.Popen(
            login.command(script, *words),
            bufsize=1 << 20,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
        )
        self._writer = Thread(target=self._give, args=(given,), daemon=True) if given else None
        if self._writer:
            self._writer.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._writer:
            self._writer.join()
        assert self._process.stdin and self._process.stdout
        with suppress(OSError):  # what was not written is not missed
            self._process.stdin.close()
        self._process.stdout.close()
        self._said.close()

    def write(self, content: bytes) -> None:
        """Send bytes to the script."""
        assert self._process.stdin
        try:
            self._process.stdin.write(content)
        except OSError as error:
            raise self._why() from error

    def read(self, size: int, most: int) -> Iterator[bytes]:
        """Yield that many of the bytes that the script says next, at most so many at a time."""
        assert self._process.stdout
        while size > 0:
            chunk = self._process.stdout.read(min(size, most))
            if not chunk:
                raise self._why()
            size -= len(chunk)
            yield chunk

    def skip_to(self, line: bytes) -> None:
        """Leave out what the script says up to a line."""
        assert self._process.stdout
        while (said := self._process.stdout.readline()) != line:
            if not said:
                raise self._why()

    def finish(self) -> None:
        """Wait for the script to be done."""
        assert self._process.stdin
        try:
            self._process.stdin.close()
        except OSError as error:
            raise self._why() from error
        if self._process.wait():
            raise self._why()

    def _why(self) -> MlstackError:
        code = self._process.wait()
        self._said.seek(0)
        return _failed(self._login, code, self._said.read().decode(errors="replace"))

    def _give(self, content: bytes) -> None:
        assert self._process.stdin
        with suppress(OSError):  # the reader sees that the script has ended
            self._process.stdin.write(content)
            self._process.stdin.close()


def _failed(login: Login, code: int, said: str) -> MlstackError:
    """Say what an exit code and the words beside it mean."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = lines[-1] if lines else f"it ended with {code}"
    who = f"{login.user}@{login.host}" if login.user else login.host
    if code == LOST:
        return _no_connection(login, who, said, last)
    if any(words in said for words in FULL):
        return MachineError(
            f"the disk of `{login.url}` is full: {last}", hint="free some space there"
        )
    if any(words in said for words in REFUSED):
        return ConfigError(
            f"`{login.url}` cannot be used: {last}", hint=f"may {who} write there? Then try again"
        )
    return BusyError(
        f"`{login.url}` failed: {last}", hint="try again; what was copied stays copied"
    )


def _no_connection(login: Login, who: str, said: str, last: str) -> MlstackError:
    port = f"-p {login.port} " if login.port else ""
    if "Permission denied" in said or "Too many authentication failures" in said:
        return ConfigError(
            f"`{login.url}` refuses the login of {who}: no key fits",
            hint="type `ssh-add -l`; user and key: `dvc remote modify NAME user|keyfile VALUE`",
        )
    if any(words in said for words in UNKNOWN):
        return ConfigError(
            f"ssh does not know the key of the host `{login.host}`, or knows another",
            hint=f"type `ssh {port}{who}` once and look at what it says",
        )
    if any(words in said for words in NO_HOST):
        return ConfigError(f"there is no host `{login.host}`", hint="look at the remote's URL")
    return BusyError(
        f"`{login.url}` cannot be reached: {last}",
        hint="is it there? Then try again; what was copied stays copied",
    )
