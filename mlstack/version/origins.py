"""Where `data.source` may copy from: any URL that fsspec knows, S3 by Arrow's client."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import fsspec
from pyarrow import fs

from mlstack.errors import BusyError, ConfigError, DataError, MachineError
from mlstack.version import aws, s3

READ_BYTES = 8 << 20
STAMPS = ("ETag", "etag", "md5Hash", "content_hash", "mtime", "LastModified", "last_modified")
PACKAGES = {"s3": "mlstack[s3]", "gs": "gcsfs", "abfs": "adlfs", "az": "adlfs", "sftp": "paramiko"}


@dataclass(frozen=True)
class Stamp:
    """What tells one content of a file from another without reading it."""

    size_bytes: int
    text: str  # an ETag, a hash or a time of change; empty where the source gives none


class Origin(Protocol):
    """Files below a URL.

    Raises `BusyError` when it cannot be reached, `ConfigError` when it refuses who asks.
    """

    url: str
    workers: int

    def list(self) -> dict[str, Stamp]:
        """Give every file by its path below the URL; a URL of one file gives its name."""
        ...

    def read(self, path: str, start: int) -> Iterator[bytes]:
        """Yield the bytes of a file from a place on."""
        ...


def open_origin(url: str) -> Origin:
    """Open a URL.

    Raises:
        ConfigError: nobody knows such a URL.
        MachineError: a package that speaks to it is not installed.
    """
    parts = urlsplit(url)
    if parts.scheme == "s3" and (found := aws.access({})) is not None and parts.netloc:
        client = s3.file_system(found, parts.netloc)
        return ArrowOrigin(url, client, f"{parts.netloc}{parts.path}".rstrip("/"))
    if parts.scheme == "file":
        return ArrowOrigin(url, fs.LocalFileSystem(), parts.path.rstrip("/"))
    try:
        client, root = fsspec.core.url_to_fs(url)
    except ImportError as error:
        package = PACKAGES.get(parts.scheme, f"fsspec[{parts.scheme}]")
        raise MachineError(
            f"data.source: a package for `{parts.scheme}://` is not installed",
            hint=f"type `pip install '{package}'`",
        ) from error
    except ValueError as error:
        raise ConfigError(
            f"data.source: `{url}` cannot be opened: {error}",
            hint="name a folder, or a URL such as s3://BUCKET/FOLDER or file:///FOLDER",
        ) from error
    return FsspecOrigin(url, client, root.rstrip("/"))


class ArrowOrigin:
    """A file system of Arrow."""

    workers = s3.WORKERS

    def __init__(self, url: str, client: fs.FileSystem, root: str) -> None:
        self.url = url
        self._client = client
        self._root = root

    def list(self) -> dict[str, Stamp]:
        """Give every file by its path below the URL."""
        with _told(self.url):
            (top,) = self._client.get_file_info([self._root])
            if top.type is fs.FileType.File:
                self._root, _, name = self._root.rpartition("/")
                return {name: _stamp(top)}
            selector = fs.FileSelector(self._root, recursive=True)
            found = self._client.get_file_info(selector)
        start = len(self._root) + 1
        return {one.path[start:]: _stamp(one) for one in found if one.type is fs.FileType.File}

    def read(self, path: str, start: int) -> Iterator[bytes]:
        """Yield the bytes of a file from a place on."""
        with _told(self.url):
            stream = self._client.open_input_file(f"{self._root}/{path}")
            size = stream.size()
        with stream:
            for place in range(start, size, READ_BYTES):
                with _told(self.url):
                    chunk = stream.read_at(min(READ_BYTES, size - place), place)
                yield chunk


class FsspecOrigin:
    """Any other file system."""

    workers = 8

    def __init__(self, url: str, client: fsspec.AbstractFileSystem, root: str) -> None:
        self.url = url
        self._client = client
        self._root = root

    def list(self) -> dict[str, Stamp]:
        """Give every file by its path below the URL."""
        with _told(self.url):
            top = self._client.info(self._root)
            if top["type"] == "file":
                self._root, _, name = self._root.rpartition("/")
                return {name: _described(top)}
            found = self._client.find(self._root, detail=True)
        start = len(self._root) + 1
        return {path[start:]: _described(info) for path, info in found.items() if path[start:]}

    def read(self, path: str, start: int) -> Iterator[bytes]:
        """Yield the bytes of a file from a place on."""
        with _told(self.url):
            stream = self._client.open(f"{self._root}/{path}", "rb", block_size=READ_BYTES)
        with stream:
            with _told(self.url):
                stream.seek(start)
            while chunk := _next(stream, self.url):
                yield chunk


def _next(stream: Any, url: str) -> bytes:
    with _told(url):
        chunk: bytes = stream.read(READ_BYTES)
    return chunk


def _stamp(info: fs.FileInfo) -> Stamp:
    return Stamp(info.size, str(info.mtime_ns or ""))


def _described(info: dict[str, Any]) -> Stamp:
    text = next((str(info[key]) for key in STAMPS if info.get(key)), "")
    return Stamp(int(info.get("size") or 0), text)


@contextmanager
def _told(url: str) -> Iterator[None]:
    try:
        with s3.told(url):
            yield
    except FileNotFoundError as error:
        raise DataError(
            f"data.source: there is nothing at `{url}`", hint="correct it in mlstack.yaml"
        ) from error
    except ImportError as error:
        raise MachineError(f"data.source: {error}", hint="install what it names") from error
    except EOFError as error:
        raise BusyError(f"`{url}` ended early", hint="try again") from error
