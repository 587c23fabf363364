"""Push and pull: by our own code where it understands the remote, else by DVC's."""

from collections.abc import Generator

from ruamel.yaml import YAML

from mlstack.records import dvc
from mlstack.records.base import Record
from mlstack.version import dvc_bridge, dvc_settings, history, remote, transfer
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
    current, settings = dvc.read_pointer(data.pointer), dvc_settings.read(data.root)
    plain = current is not None and _is_plain(data.pointer.read_text())
    place = remote.find(data.root, url) if plain and settings else None
    if place is None or current is None or settings is None:
        count = dvc_bridge.push(data.root, data.pointer, url, everything=everything)
        return Moved(count, None)
    older = {v.pointer.md5 for v in history.versions(data, everywhere=True)} if everything else ()
    return (yield from transfer.push(place, settings.cache, current.md5, older))


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
    pointer = dvc.parse_pointer(text, where=f"{data.source}.dvc")
    settings = dvc_settings.read(data.root)
    place = remote.find(data.root, url) if settings and _is_plain(text) else None
    if place is None or settings is None:
        return Moved(dvc_bridge.fetch(data.root, data.pointer, url, commit), None)
    return (yield from transfer.fetch(place, settings.cache, pointer.md5))


def _is_plain(text: str) -> bool:
    """Tell whether a pointer is of DVC 3 and lies in its usual place in a remote.

    Older pointers (without `hash: md5`) are stored elsewhere, and so is an output with a remote or
    with versions of the cloud of its own.
    """
    (output,) = YAML(typ="safe", pure=True).load(text)["outs"]
    return output.get("hash") == "md5" and set(output) <= PLAIN
