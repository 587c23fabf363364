"""How commands call the server of their own project: with its key, by its certificate."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from mlstack.errors import ConfigError
from mlstack.records.server import ServerSpec, TlsSpec


@dataclass(frozen=True)
class Door:
    """Where a server is, and what it opens to."""

    url: str
    headers: dict[str, str]
    trusts: ssl.SSLContext | bool = True  # what its certificate is verified by


def door(running: ServerSpec) -> Door:
    """Take the key that a running server has for its own commands, and its very certificate."""
    access = running.access
    headers = {"authorization": f"Bearer {access.own_key}"} if access.own_key else {}
    return Door(running.url, headers, trust(access.tls))


def trust(tls: TlsSpec | None) -> ssl.SSLContext | bool:
    """Give what a client of our own server verifies it by: that very certificate."""
    return True if tls is None else pinned(Path(tls.cert))


def pinned(cert: Path) -> ssl.SSLContext:
    """Make a client's context that trusts this one certificate, whatever it is called.

    Raises:
        ConfigError: it cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cert)
    except OSError as error:
        raise ConfigError(f"`{cert}` cannot be read as PEM", hint="give a PEM file") from error
    return context
