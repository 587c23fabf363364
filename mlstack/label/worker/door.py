"""Who may come in: only this machine, or whoever holds the token of the shared link."""

import hmac
import secrets
import socket
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "mlstack-label"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


@dataclass(frozen=True)
class Door:
    """The address of the server and the token of a shared one."""

    url: str
    token: str | None

    @classmethod
    def open(cls, listening: socket.socket, *, shared: bool) -> "Door":
        """Name the address of a bound socket; a shared one gets a fresh token."""
        host, port = listening.getsockname()[:2]
        if not shared:
            shown = f"[{host}]" if ":" in host else host
            return cls(f"http://{shown}:{port}/", None)
        token = secrets.token_urlsafe(16)
        shown = _own_address() if host == "0.0.0.0" else host
        return cls(f"http://{shown}:{port}/?token={token}", token)

    def guard(self, app: ASGIApp) -> ASGIApp:
        """Refuse strangers before the app sees them."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            headers = Headers(scope=scope)
            offered = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])
            if refusal := self._refusal(scope, headers, offered[0]):
                await refusal(scope, receive, send)
                return

            async def send_with_headers(message: Message) -> None:
                if message["type"] == "http.response.start":
                    answer = MutableHeaders(scope=message)
                    answer.update(HEADERS)
                    if self.token and offered[0]:
                        answer.append(
                            "set-cookie",
                            f"{COOKIE}={self.token}; Path=/; HttpOnly; SameSite=Lax",
                        )
                await send(message)

            await app(scope, receive, send_with_headers)

        return guarded

    def _refusal(self, scope: Scope, headers: Headers, offered: str) -> PlainTextResponse | None:
        host = headers.get("host", "")
        if self.token is None and _name(host) not in LOOPBACK:
            # A page elsewhere may point its own name at 127.0.0.1 (DNS rebinding).
            return PlainTextResponse("this server answers to localhost only\n", 403)
        if self.token is not None and not _holds(self.token, offered, headers):
            return PlainTextResponse("open the whole link, with its token\n", 401)
        if scope["method"] in ("GET", "HEAD"):
            return None
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return PlainTextResponse("another site may not post here\n", 403)
        if headers.get("content-type", "").split(";")[0].strip() != "application/json":
            # A form of another site cannot send this type (CSRF).
            return PlainTextResponse("send application/json\n", 415)
        return None


def _holds(token: str, offered: str, headers: Headers) -> bool:
    bearer = headers.get("authorization", "").removeprefix("Bearer ")
    cookie = cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
    return any(
        hmac.compare_digest(token.encode(), key.encode()) for key in (offered, bearer, cookie)
    )


def _name(host: str) -> str:
    return urlsplit(f"//{host}").hostname or ""


def _own_address() -> str:
    """Give the address that others reach us at; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return socket.gethostname()
        return str(probe.getsockname()[0])
