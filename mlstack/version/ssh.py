"""A remote on a machine that ssh reaches, by the system's own `ssh` and a shell on the other side.

DVC opens, writes, closes and renames each object by SFTP, some round trips for each. Here all
objects of a push are one stream that `tar` unpacks there beside the store, and those of a pull are
one stream of `cat`: a few round trips for 10,000. The scripts use what POSIX has, and `tar`.
"""

import re
import secrets
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from tarfile import BLOCKSIZE, GNU_FORMAT, TarInfo
from urllib.parse import urlsplit

from mlstack.errors import ConfigError, DataError
from mlstack.version.remote import Outgoing
from mlstack.version.ssh_session import Login, Session, run

READ_BYTES = 1 << 20
BATCH = 10_000  # objects of one stream: what a broken connection costs at most
BATCH_BYTES = 1 << 30
# Options of a DVC remote that are understood here; with any other, DVC's own code does the work.
KNOWN = {"url", "user", "port", "keyfile", "timeout", "jobs", "max_sessions"}
MODE = 0o644
HELLO = "mlstack"
DAY = 1  # after which what a broken connection left there is removed

# A server that allows nothing but SFTP does not say hello. $1 is the folder of the remote.
PROBE = f"for c in tar xargs find mv; do command -v $c >/dev/null || exit 1; done; echo {HELLO}"
SIZES = 'LC_ALL=C; export LC_ALL; cd "$1/files/md5" 2>/dev/null || exit 0; xargs ls -lnL; exit 0'
READ = f'cd "$1/files/md5" && echo {HELLO} && exec xargs cat'  # a login may say things before
# Files first, then the lists that name them, each after everything before is on the disk. `whole`
# is the last member of the stream: a connection that breaks leaves nothing under its final name.
STORE = (
    'set -e; f="$1/files"; t="$f/.mlstack-$2"; mkdir -p "$f/md5"; '
    f'find "$f" -maxdepth 1 -name ".mlstack-*" -mtime +{DAY} -exec rm -rf {{}} + || :; '
    'trap "rm -rf \\"\\$t\\"" EXIT; trap "exit 1" HUP INT TERM; '
    'mkdir "$t"; cd "$t"; tar xof -; [ -f whole ]; '
    "for k in files lists; do [ -d $k ] || continue; sync -f . 2>/dev/null || sync; cd $k; "
    'for x in *; do mkdir -p "$f/md5/$x"; mv -f "$x"/* "$f/md5/$x/"; done; cd ..; done; cd /'
)
NETLOC = re.compile(
    r"(?:(?P<user>\w[\w.+-]*)@)?(?P<host>\w[\w.-]*|\[[\da-fA-F:]+\])(?::(?P<port>\d+))?"
)
LINE = re.compile(rb"^\S+ +\d+ +\d+ +\d+ +(\d+) .*?([0-9a-f]{2})/([0-9a-f]{30}(?:\.dir)?)(?: ->|$)")


def connect(options: dict[str, str]) -> "SshRemote | None":
    """Open a remote as DVC's options describe it; None when only DVC can speak to it.

    Raises:
        ConfigError: the key is not there, the host is unknown, or it refuses who asks.
        BusyError: it cannot be reached.
    """
    place = urlsplit(options["url"])
    named = NETLOC.fullmatch(place.netloc)  # as it is written: ssh's own settings know it so
    odd = set(options) - KNOWN or place.query or place.fragment
    if odd or named is None or len(place.path) < 2:
        return None
    keyfile = options.get("keyfile")
    if keyfile and not Path(keyfile).expanduser().is_file():
        raise ConfigError(
            f"there is no key `{keyfile}`",
            hint="name another as `keyfile` of the remote",
        )
    login = Login(
        url=options["url"],
        host=named["host"].strip("[]"),
        user=options.get("user") or named["user"],
        port=options.get("port") or named["port"],
        keyfile=keyfile,
        timeout_s=options.get("timeout"),
    )
    if not login.has_client() or HELLO not in run(login, PROBE, may_fail=True).decode().split():
        return None
    return SshRemote(login, place.path.rstrip("/"))


class SshRemote:
    """Objects on another machine; `send` and `receive` move many of them in one stream."""

    def __init__(self, login: Login, folder: str) -> None:
        self.url = login.url
        self._login = login
        self._folder = folder

    def sizes(self, md5s: Collection[str]) -> dict[str, int]:
        """Give the size in bytes of each of these objects that is there."""
        if not md5s:
            return {}
        said = run(self._login, SIZES, self._folder, given=_names(md5s))
        found = (LINE.match(line) for line in said.splitlines())
        return {(one[2] + one[3]).decode(): int(one[1]) for one in found if one}

    def read(self, md5: str) -> Iterator[bytes]:
        """Yield the bytes of an object that is there."""
        said = run(self._login, READ, self._folder, given=_names([md5]))
        yield said.partition(f"{HELLO}\n".encode())[2]

    def send(self, objects: Iterable[Outgoing]) -> Iterator[Outgoing]:
        """Store objects, in this order; yield each when it is on its way.

        They have their names there when the iterator is at its end, lists of files last; after an
        error on the way, those of whole batches have.
        """
        waiting = iter(objects)
        one = next(waiting, None)
        while one is not None:
            count = size_bytes = 0
            with Session(self._login, STORE, self._folder, secrets.token_hex(8)) as session:
                while one is not None and count < BATCH and size_bytes < BATCH_BYTES:
                    _send(session, one)
                    yield one
                    count, size_bytes = count + 1, size_bytes + one.size_bytes
                    one = next(waiting, None)
                session.write(_header("whole", 0) + bytes(2 * BLOCKSIZE))
                session.finish()

    def receive(self, sizes: dict[str, int]) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Yield the MD5 and the bytes of each object; whoever asks reads each to its end."""
        if not sizes:
            return
        with Session(self._login, READ, self._folder, given=_names(sizes)) as session:
            session.skip_to(f"{HELLO}\n".encode())
            for md5, size in sizes.items():
                yield md5, session.read(size, READ_BYTES)
            session.finish()


def _send(session: Session, one: Outgoing) -> None:
    kind = "lists" if one.md5.endswith(".dir") else "files"
    session.write(_header(f"{kind}/{one.md5[:2]}/{one.md5[2:]}", one.size_bytes))
    left = one.size_bytes
    for chunk in one.chunks:
        left -= len(chunk)
        if left >= 0:
            session.write(chunk)
    if left:
        raise DataError(
            f"the object {one.md5} in the cache changes while it is pushed",
            hint="type `mlstack version verify`",
        )
    session.write(bytes(-one.size_bytes % BLOCKSIZE))


def _header(name: str, size_bytes: int) -> bytes:
    member = TarInfo(name)
    member.size, member.mode, member.mtime = size_bytes, MODE, int(time.time())
    return member.tobuf(GNU_FORMAT)


def _names(md5s: Iterable[str]) -> bytes:
    return "".join(f"{md5[:2]}/{md5[2:]}\n" for md5 in md5s).encode()
