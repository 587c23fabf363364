"""Where objects are kept away from this machine: what every kind of remote can do."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast, runtime_checkable

from mlstack.records.dvc_config import DvcConfig


class Remote(Protocol):
    """Objects by their MD5, in the layout of DVC 3: `files/md5/xx/yyy`.

    Every method may be called from several threads at once, and raises `BusyError` when the remote
    cannot be reached and `ConfigError` when it refuses who asks. An object is there as a whole or
    not at all.
    """

    url: str
    workers: int  # how many calls at once it likes

    def sizes(self, md5s: Collection[str]) -> dict[str, int]:
        """Give the size in bytes of each of these objects that is there."""
        ...

    def put(self, md5: str, chunks: Iterable[bytes]) -> None:
        """Store an object."""
        ...

    def read(self, md5: str) -> Iterator[bytes]:
        """Yield the bytes of an object that is there."""
        ...


@runtime_checkable
class Stream(Protocol):
    """A remote where a call is dear and the next object in the same stream is not; errors alike."""

    url: str

    def sizes(self, md5s: Collection[str]) -> dict[str, int]:
        """Give the size in bytes of each of these objects that is there."""
        ...

    def read(self, md5: str) -> Iterator[bytes]:
        """Yield the bytes of an object that is there."""
        ...

    def send(self, objects: Iterable["Outgoing"]) -> Iterator["Outgoing"]:
        """Store objects, lists of files the last; yield each when it is on its way."""
        ...

    def receive(self, sizes: dict[str, int]) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Yield the MD5 and the bytes of each object; whoever asks reads each to its end."""
        ...


@dataclass(frozen=True)
class Outgoing:
    """An object on its way out, of exactly that size."""

    md5: str
    size_bytes: int
    chunks: Iterable[bytes]


# Kind of URL -> the module with `connect(options) -> Remote | Stream | None`.
KINDS = {"s3": "mlstack.version.s3", "ssh": "mlstack.version.ssh"}


def find(config: DvcConfig, url: str | None) -> Remote | Stream | None:
    """Open the remote of a project.

    Args:
        config: DVC's settings.
        url: `versioning.remote`; None takes the remote of DVC's own settings.

    Returns:
        The remote; None when only DVC's own code can speak to it.
    """
    options = config.options_of(url)
    kind = options.get("url", "").partition("://")[0]
    if kind not in KINDS:
        return None
    return cast("Remote | Stream | None", import_module(KINDS[kind]).connect(options))
