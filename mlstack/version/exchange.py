"""Push and pull: by our own code where it understands the remote, else by DVC's."""

from collections.abc import Generator, Iterable

from mlstack.records import dvc
from mlstack.records.base import Record
from mlstack.records.dvc_config import DvcConfig, read_config
from mlstack.version import folder_remote, history, remote, stock, streaming, transfer
from mlstack.version.history import Dataset
from mlstack.version.transfer import Moved

PLAIN = {"md5", "size", "nfiles", "hash", "path"}  # keys of a pointer that are understood here


def push(data: Dataset, url: str | None, *, everything: bool) -> Generator[Record, None, Moved]:
    """Copy the current version, or all of them, to a remote.

    Raises:
        DataError: nothing was snapshotted, or an object is lost or damaged.
        BusyError: the remote cannot be reached.
        ConfigError: there is none, or it refuses who asks.
    """
    current, config = dvc.read_pointer(data.pointer), _plain(data)
    if current and config and _is_plain(data.pointer.read_text()):
        older: Iterable[str] = ()
        if everything:
            older = {v.pointer.kept.md5 for v in history.versions(data, everywhere=True)}
        if place := folder_remote.find(config, url):
            with stock.hold(config):
                return (yield from folder_remote.push(config, place, current.kept.md5, older))
        far = remote.find(config, url)
        if isinstance(far, remote.Stream):
            return (yield from streaming.push(far, config.cache, current.kept.md5, older))
        if far:
            return (yield from transfer.push(far, config.cache, current.kept.md5, older))
    return Moved(stock.bridge().push(data.root, data.pointer, url, everything=everything), None)


def fetch(
    data: Dataset, url: str | None, text: str, commit: str | None
) -> Generator[Record, None, Moved]:
    """Copy what the cache lacks of one version from a remote.

    Args:
        data: the dataset.
        url: `versioning.remote`; None takes the remote of DVC's own settings.
        text: the pointer of the version.
        commit: the commit that holds it; None for the one in the folder.

    Raises:
        DataError: the remote lacks an object, or one is damaged.
        BusyError: the remote cannot be reached.
        ConfigError: there is none, or it refuses who asks.
    """
    version = dvc.parse_pointer(text, where=f"{data.source}.dvc").kept.md5
    config = _plain(data)
    if config and _is_plain(text):
        if place := folder_remote.find(config, url):
            with stock.hold(config):
                return (yield from folder_remote.fetch(config, place, version))
        far = remote.find(config, url)
        if isinstance(far, remote.Stream):
            return (yield from streaming.fetch(far, config.cache, version))
        if far:
            return (yield from transfer.fetch(far, config.cache, version))
    return Moved(stock.bridge().fetch(data.root, data.pointer, url, commit), None)


def _plain(data: Dataset) -> DvcConfig | None:
    config = read_config(data.root)
    return config if config and config.is_plain else None


def _is_plain(text: str) -> bool:
    """Tell whether a pointer is of DVC 3 and lies in its usual place in a remote.

    Older pointers (without `hash: md5`) are stored elsewhere, and so is an output with a remote or
    with versions of the cloud of its own.
    """
    if dvc.is_plain_pointer(text):
        return True
    output = dvc.only_output(text)
    return output.get("hash") == "md5" and set(output) <= PLAIN
