"""Who may call: API keys, and which web pages a browser lets at the server."""

import asyncio
import binascii
import contextlib
import os
from base64 import b64decode
from pathlib import Path

from mlstack.errors import MlstackError
from mlstack.records import keys as record
from mlstack.records.keys import Key
from mlstack.records.server import AccessSpec
from mlstack.serve.worker.answers import Answer, Headers, Refused
from mlstack.serve.worker.request import Request
from mlstack.serve.worker.said import log

LOOK_S = 0.5
PATHS = {
    "health": ("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"),
    "metrics": ("/metrics",),
    "openapi": ("/openapi.json",),
}
NEEDED = "is needed: `Authorization: Bearer KEY`"
BEARER: Headers = [(b"www-authenticate", b'Bearer realm="mlstack"')]
# What is opened in a browser: it asks for a password (the key) and sends it from then on.
BASIC: Headers = [(b"www-authenticate", b'Basic realm="mlstack: any name, your API key"')]
PAGES = frozenset({"/", "/metrics", "/openapi.json"})
PREFLIGHT: Headers = [
    (b"access-control-allow-methods", b"GET, POST"),
    (
        b"access-control-allow-headers",
        b"authorization, content-type, inference-header-content-length, traceparent, tracestate, "
        b"x-api-key, x-request-id, x-session-id, x-timeout-ms",
    ),
    (b"access-control-max-age", b"600"),
]
EXPOSED = b"inference-header-content-length, x-model-version, x-prediction-id, x-request-id"


class Access:
    """The doorkeeper of one server."""

    def __init__(self, spec: AccessSpec) -> None:
        self._spec = spec
        self._place = Path(spec.keys_file)
        self._origins = {origin.encode("latin-1", "replace") for origin in spec.cors_origins}
        self._public = frozenset(path for name in spec.public for path in PATHS[name])
        self._seen = self._stamp()
        self._fixed: list[Key] = []
        self._keys: list[Key] = []
        if spec.asks_for_keys:
            own = Key(id="own", name="commands", sha256=record.digest(spec.own_key), created="")
            self._fixed = [own, *record.from_environment(os.environ)]
            self._keys = [*self._fixed, *record.read_keys(self._place).active()]

    @property
    def marks_answers(self) -> bool:
        """Tell whether answers name the web pages that may read them."""
        return bool(self._origins)

    def has_key(self, request: Request) -> bool:
        """Tell whether a request brings a good key, and note whose; or none is asked for."""
        if not self._spec.asks_for_keys:
            return True
        given = _given(request.headers)
        found = record.find(self._keys, given) if given else None
        request.caller = found.id if found is not None else ""
        return found is not None

    def admit(self, request: Request) -> Answer | None:
        """Let a request in; give the answer of one that only asks for leave (CORS preflight).

        Raises:
            Refused: 401 without a good key, 403 from a web page that is not listed.
        """
        origin = request.headers.get(b"origin")
        if origin is not None and not self._knows(origin, request):
            raise Refused(
                403,
                f"`{origin[:200].decode('latin-1')}` is not in `serve.cors_origins`",
                field="origin",
            )
        is_question = b"access-control-request-method" in request.headers
        if origin is not None and is_question and request.method == "OPTIONS":
            request.route = "preflight"
            return Answer(204, b"", list(PREFLIGHT) if self._is_listed(origin) else [])
        if request.path not in self._public and not self.has_key(request):
            problem = "is not valid" if _given(request.headers) else NEEDED
            raise Refused(
                401,
                f"an API key {problem}",
                field="authorization",
                headers=BASIC if request.path in PAGES else BEARER,
            )
        return None

    def headers(self, request: Request) -> Headers:
        """Give what lets a listed web page read the answer."""
        if not self._origins:
            return []
        origin = request.headers.get(b"origin")
        if origin is None or not self._is_listed(origin):
            return [(b"vary", b"origin")]
        return [
            (b"vary", b"origin"),
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", EXPOSED),
        ]

    async def watch(self) -> None:
        """Follow the file of keys for ever; one that cannot be read leaves the keys as they are."""
        while self._spec.asks_for_keys:
            await asyncio.sleep(LOOK_S)
            stamp = self._stamp()
            if stamp == self._seen:
                continue
            self._seen = stamp
            try:
                self._keys = [*self._fixed, *record.read_keys(self._place).active()]
            except (MlstackError, OSError) as error:
                log.warning("the API keys stay as they were: %s", error)

    def _knows(self, origin: bytes, request: Request) -> bool:
        """Tell a page of our own, or one that is listed, from a foreign one.

        A browser names the page that asks; without this every page that somebody opens could
        send its own labels to a server on his loopback.
        """
        _, _, host = origin.partition(b"://")
        return host == request.headers.get(b"host") or self._is_listed(origin)

    def _is_listed(self, origin: bytes) -> bool:
        return origin in self._origins or b"*" in self._origins

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            status = self._place.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino, status.st_mode


def _given(headers: dict[bytes, bytes]) -> str:
    """Find the key: behind `Bearer`, as the password of `Basic`, or in `X-API-Key`."""
    kind, _, value = headers.get(b"authorization", b"").partition(b" ")
    match kind.lower():
        case b"bearer":
            return value.strip().decode("latin-1")
        case b"basic":
            with contextlib.suppress(binascii.Error):
                return b64decode(value).partition(b":")[2].decode("latin-1")
    return headers.get(b"x-api-key", b"").decode("latin-1")
