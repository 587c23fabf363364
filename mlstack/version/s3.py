"""A remote on S3, or on any server that speaks its protocol.

Arrow's client is C++: its threads run beside each other, where the one that DVC uses takes turns.
"""

import os
import re
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from pyarrow import fs

from mlstack.errors import BusyError, ConfigError, MlstackError
from mlstack.version import aws

WORKERS = 16
READ_BYTES = 8 << 20  # one request each
FEW = 32  # objects that are asked for one by one, without listing the rest
PAGE = 1000  # objects that one request lists
# Options of a DVC remote that are understood here; with any other, DVC's own code does the work.
KNOWN = {
    "url",
    "endpointurl",
    "region",
    "access_key_id",
    "secret_access_key",
    "session_token",
    "profile",
    "allow_anonymous_login",
    "jobs",
    "use_ssl",
}
REFUSED = {  # errors of the server that trying again does not mend
    "NO_SUCH_BUCKET": "there is no bucket `{bucket}`",
    "ACCESS_DENIED": "it refuses these keys",
    "INVALID_ACCESS_KEY_ID": "it does not know this access key",
    "SIGNATURE_DOES_NOT_MATCH": "the secret key is wrong",
    "EXPIRED_TOKEN": "the session token has expired",
    "INVALID_TOKEN": "the session token is wrong",
}


def connect(options: dict[str, str]) -> "S3Remote | None":
    """Open a remote as DVC's options describe it; None when one of them is not understood here."""
    if not set(options) <= KNOWN or options.get("use_ssl", "true").lower() != "true":
        return None
    place = urlsplit(options["url"])
    found = aws.access(options)
    if found is None or not place.netloc or place.query:
        return None
    return S3Remote(
        options["url"], file_system(found, place.netloc), int(options.get("jobs", WORKERS))
    )


def file_system(found: aws.Access, bucket: str) -> fs.S3FileSystem:
    """Open a connection to the server of a bucket."""
    with told(f"s3://{bucket}"):
        return fs.S3FileSystem(
            access_key=found.key,
            secret_key=found.secret,
            session_token=found.token,
            anonymous=found.key is None,
            region=found.region or fs.resolve_s3_region(bucket),
            endpoint_override=found.endpoint,
            tls_ca_file_path=os.getenv("AWS_CA_BUNDLE"),
            allow_delayed_open=True,  # a small file is one request, not three
            background_writes=False,  # else a large one is read into memory as a whole
        )


class S3Remote:
    """Objects in a bucket."""

    def __init__(self, url: str, client: fs.S3FileSystem, workers: int) -> None:
        self.url = url
        self.workers = workers
        self._client = client
        place = urlsplit(url)
        parts = [place.netloc, *place.path.strip("/").split("/"), "files", "md5"]
        self._base = "/".join(part for part in parts if part)

    def sizes(self, md5s: Collection[str]) -> dict[str, int]:
        """Give the size in bytes of each of these objects that is there."""
        wanted = set(md5s)
        if len(wanted) > FEW:
            # An MD5 is evenly spread: what begins with 00 is a 256th of all.
            pages = 256 * len(self._list(f"{self._base}/00")) / PAGE
            if pages < len(wanted):
                there = self._list(self._base)
                return {md5: there[md5] for md5 in wanted & there.keys()}
        with ThreadPoolExecutor(self.workers) as pool:
            found = zip(wanted, pool.map(self._size, wanted), strict=True)
            return {md5: size for md5, size in found if size is not None}

    def put(self, md5: str, chunks: Iterable[bytes]) -> None:
        """Store an object."""
        with told(self.url):
            stream = self._client.open_output_stream(self._path(md5))
        try:
            for chunk in chunks:
                with told(self.url):
                    stream.write(chunk)
        except BaseException:
            with suppress(OSError):  # closing makes an object of what has arrived
                stream.close()
                self._client.delete_file(self._path(md5))
            raise
        with told(self.url):
            stream.close()

    def read(self, md5: str) -> Iterator[bytes]:
        """Yield the bytes of an object that is there."""
        with told(self.url):
            stream = self._client.open_input_file(self._path(md5))
        with stream:
            left = stream.size()
            while left > 0:  # by its size: reading on to the end would be one request more
                chunk = _next(stream, self.url)
                left -= len(chunk)
                yield chunk

    def _size(self, md5: str) -> int | None:
        with told(self.url):
            (info,) = self._client.get_file_info([self._path(md5)])
        return info.size if info.type is fs.FileType.File else None

    def _list(self, folder: str) -> dict[str, int]:
        selector = fs.FileSelector(folder, recursive=True)
        with told(self.url):
            try:
                found = self._client.get_file_info(selector)
            except FileNotFoundError:  # nothing was ever pushed
                return {}
        return {
            one.path[len(self._base) :].replace("/", ""): one.size
            for one in found
            if one.type is fs.FileType.File
        }

    def _path(self, md5: str) -> str:
        return f"{self._base}/{md5[:2]}/{md5[2:]}"


def _next(stream: object, url: str) -> bytes:
    with told(url):
        return stream.read(READ_BYTES)  # type: ignore[attr-defined,no-any-return]


def _squeezed(text: str) -> str:
    """Make `EXPIRED_TOKEN`, Arrow's own name, and `ExpiredToken`, the server's, alike."""
    return text.replace("_", "").lower()


@contextmanager
def told(url: str) -> Iterator[None]:
    """Turn an error of the server into one of ours."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _explained(url, str(error)) from error


def _explained(url: str, text: str) -> MlstackError:
    code = next((one for one in REFUSED if _squeezed(one) in _squeezed(text)), "")
    if re.search(r"Bucket '.*' not found", text):  # as Arrow says it, looking for the region
        code = "NO_SUCH_BUCKET"
    if code in REFUSED:
        reason = REFUSED[code].format(bucket=urlsplit(url).netloc)
        hint = (
            "create it, or correct the URL"
            if code == "NO_SUCH_BUCKET"
            else "look at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws/credentials"
        )
        return ConfigError(f"the remote `{url}` cannot be used: {reason}", hint=hint)
    reason = re.sub(r"^.*?AWS Error ", "", text).split(" (Request ID")[0].split("; Details")[0]
    return BusyError(
        f"the remote `{url}` cannot be reached: {reason[:200]}",
        hint="is it there? Then try again; what was copied stays copied",
    )
