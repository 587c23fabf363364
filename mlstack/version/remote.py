"""Where objects are kept away from this machine: what every kind of remote can do."""

from collections.abc import Collection, Iterable, Iterator
from importlib import import_module
from typing import Protocol, cast

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


# Kind of URL -> the module with `connect(options) -> Remote | None`.
KINDS = {"s3": "mlstack.version.s3"}


def find(config: DvcConfig, url: str | None) -> Remote | None:
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
    return cast("Remote | None", import_module(KINDS[kind]).connect(options))
