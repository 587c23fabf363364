"""The few calls of an OCI registry that a push needs, by httpx.

Credentials come from REGISTRY_USERNAME and REGISTRY_PASSWORD alone, and go to the registry that was
named, or to the token server that it names; plain HTTP is spoken on loopback only.
"""

import base64
import hashlib
import ipaddress
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from mlstack import files
from mlstack.errors import BusyError, ConfigError, StepError

USER, PASSWORD = "REGISTRY_USERNAME", "REGISTRY_PASSWORD"
NAME = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"
REFERENCE = re.compile(
    rf"(?P<host>[\w.-]+|\[[\da-fA-F:]+\])(?P<port>:\d+)?/(?P<name>{NAME})(?::(?P<tag>\w[\w.-]{{0,127}}))?"
)
BYTES = "application/octet-stream"
PIECE = 1 << 20
WAIT_S = 60.0  # for a piece, or an answer
MANIFESTS = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json"
TOO_BUSY = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Place:
    """Where a package goes in a registry."""

    host: str  # with the port
    name: str
    tag: str

    @classmethod
    def parse(cls, reference: str, *, tag: str) -> "Place":
        """Read HOST[:PORT]/NAME[:TAG].

        Raises:
            ConfigError: it is not of that form.
        """
        found = REFERENCE.fullmatch(reference)
        if found is None:
            raise ConfigError(
                f"`{reference}` does not name a place in a registry",
                hint="write HOST[:PORT]/NAME[:TAG], as localhost:5000/models/digits:1",
            )
        host = found["host"] + (found["port"] or "")
        return cls(host, found["name"], found["tag"] or tag)

    def __str__(self) -> str:
        return f"{self.host}/{self.name}:{self.tag}"

    @property
    def url(self) -> httpx.URL:
        """Give the repository's address; HTTP on loopback, HTTPS everywhere else."""
        address = httpx.URL(f"//{self.host}/v2/{self.name}/")
        return address.copy_with(scheme="http" if is_loopback(address.host) else "https")


@dataclass(frozen=True)
class Sent:
    """Bytes that a registry knows by their hash."""

    digest: str
    size: int
    path: Path | None = None
    content: bytes = b""

    @classmethod
    def of_file(cls, path: Path) -> "Sent":
        """Hash a file."""
        return cls(f"sha256:{files.sha256(path)}", path.stat().st_size, path)

    @classmethod
    def of_bytes(cls, content: bytes) -> "Sent":
        """Hash bytes."""
        return cls(f"sha256:{hashlib.sha256(content).hexdigest()}", len(content), None, content)

    def pieces(self) -> Iterator[bytes]:
        """Give the bytes, in pieces."""
        if self.path is None:
            yield self.content
            return
        with self.path.open("rb") as stream:
            while piece := stream.read(PIECE):
                yield piece


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Registry:
    """A connection to one repository of a registry."""

    def __init__(self, place: Place) -> None:
        self._place = place
        # A proxy of the environment is not this machine.
        self._client = httpx.Client(timeout=WAIT_S, trust_env=not is_loopback(place.url.host))
        self._headers: dict[str, str] = {}

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def digest_of_tag(self) -> str | None:
        """Give the digest that the tag stands for; None when there is no such tag."""
        answer = self._call("GET", self._tag, {"Accept": MANIFESTS})
        if answer.status_code == 404:
            return None
        self._expect(answer, 200)
        return f"sha256:{hashlib.sha256(answer.content).hexdigest()}"

    def send(self, what: Sent) -> bool:
        """Send bytes that the registry does not have; give whether it needed them."""
        if self._call("HEAD", self._place.url.join(f"blobs/{what.digest}")).status_code == 200:
            return False
        begun = self._call("POST", self._place.url.join("blobs/uploads/"))
        self._expect(begun, 202)
        target = self._place.url.join(begun.headers.get("location", ""))
        target = target.copy_merge_params({"digest": what.digest})
        self._expect(self._call("PUT", target, {"Content-Type": BYTES}, what), 201)
        return True

    def tag(self, manifest: bytes, kind: str) -> None:
        """Write the manifest, which makes the tag stand for it."""
        sent = Sent.of_bytes(manifest)
        answer = self._call("PUT", self._tag, {"Content-Type": kind}, sent)
        self._expect(answer, 201)
        if answer.headers.get("docker-content-digest", sent.digest) != sent.digest:
            raise StepError(f"{self._place.host} stored another manifest than it was sent")

    @property
    def _tag(self) -> httpx.URL:
        return self._place.url.join(f"manifests/{self._place.tag}")

    def _call(
        self,
        method: str,
        target: httpx.URL,
        headers: dict[str, str] | None = None,
        body: Sent | None = None,
    ) -> httpx.Response:
        """Ask; where the registry wants to know who asks, or no longer does, tell it and repeat."""
        answer = self._once(method, target, headers or {}, body)
        if answer.status_code == 401:
            self._headers = self._proof(answer.headers.get("www-authenticate", ""))
            answer = self._once(method, target, headers or {}, body)
        if answer.status_code in (401, 403):
            raise ConfigError(
                f"{self._place.host} does not let {os.environ.get(USER) or 'nobody'} write to "
                f"`{self._place.name}`",
                hint=f"set {USER} and {PASSWORD} in the environment",
            )
        return answer

    def _once(
        self, method: str, target: httpx.URL, headers: dict[str, str], body: Sent | None
    ) -> httpx.Response:
        """Ask once; credentials go to the registry itself only."""
        if target.scheme != "https" and not is_loopback(target.host):
            raise StepError(f"{self._place.host} asks to send over plain HTTP to {target.host}")
        same = (target.scheme, target.netloc) == (self._place.url.scheme, self._place.url.netloc)
        mine = headers | (self._headers if same else {})
        content = body.pieces() if body is not None else None
        if body is not None:
            mine |= {"Content-Length": str(body.size)}
        try:
            return self._client.request(method, target, headers=mine, content=content)
        except httpx.TransportError as error:
            raise BusyError(
                f"{self._place.host} does not answer: {error or type(error).__name__}",
                hint="the same command again sends what is missing",
            ) from error

    def _proof(self, challenge: str) -> dict[str, str]:
        """Give the header that says who asks: a password, or a token that it is changed for."""
        user, password = os.environ.get(USER), os.environ.get(PASSWORD, "")
        basic = base64.b64encode(f"{user}:{password}".encode()).decode()
        mine = {"Authorization": f"Basic {basic}"} if user else {}
        if not challenge.lower().startswith("bearer "):
            return mine
        wanted = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        realm = httpx.URL(wanted.pop("realm", ""))
        if realm.scheme != "https" and not is_loopback(realm.host):
            raise StepError(f"{self._place.host} names a token server without HTTPS: {realm.host}")
        scope = f"repository:{self._place.name}:pull,push"
        query = {"service": wanted.get("service", ""), "scope": scope}
        try:
            answer = self._client.get(realm, params=query, headers=mine)
        except httpx.TransportError as error:
            raise BusyError(f"{realm.host} gives no token: {error}") from error
        try:
            said = answer.json() if answer.status_code == 200 else {}
        except ValueError:
            said = {}
        token = said.get("token") or said.get("access_token")
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _expect(self, answer: httpx.Response, status: int) -> None:
        if answer.status_code == status:
            return
        said = " ".join(answer.text.split())[:200]
        kind = BusyError if answer.status_code in TOO_BUSY else StepError
        raise kind(
            f"{self._place.host} answers {answer.status_code} to {answer.request.method} "
            f"{answer.request.url.path}: {said}",
            hint="the same command again sends what is missing",
        )
