"""The certificate of the server, tried out before anybody connects."""

import datetime
import ssl
import stat
from pathlib import Path

from mlstack.errors import ConfigError
from mlstack.launch.own_server import pinned
from mlstack.records.keys import refuse_readable
from mlstack.records.server import TlsSpec

EXPIRED = 10  # OpenSSL: X509_V_ERR_CERT_HAS_EXPIRED
NOT_YET = 9  # X509_V_ERR_CERT_NOT_YET_VALID


def check(tls: TlsSpec) -> datetime.datetime:
    """Shake hands with ourselves in memory; give when the certificate expires.

    That is what proves that the key is the certificate's and that today lies in its time: OpenSSL
    itself says so, and no library that reads certificates is needed.

    Raises:
        ConfigError: a file is missing, no PEM, not the other's, out of date, or others may read it.
    """
    cert, key = Path(tls.cert), Path(tls.key)
    for path, name in ((cert, "serve.tls.cert"), (key, "serve.tls.key")):
        if not path.is_file():
            raise ConfigError(f"{name}: there is no `{path}`", hint="give the path of a PEM file")
    refuse_readable(key, stat.S_IRWXO | stat.S_IWGRP)  # a group may: that of certbot, of a pod
    context = server_context(tls)
    try:
        return _expires(context, pinned(cert))
    except ssl.SSLCertVerificationError as error:
        raise ConfigError(_out_of_date(cert, error), hint="renew it, or set the clock") from error
    except ssl.SSLError as error:
        raise ConfigError(
            f"`{cert}` cannot be used for HTTPS: {error.reason or error}",
            hint="make a certificate for a server",
        ) from error


def stamp(tls: TlsSpec) -> tuple[int, ...] | None:
    """Tell one state of the two files from another; None while one is missing."""
    try:
        pair = [Path(tls.cert).stat(), Path(tls.key).stat()]
    except OSError:
        return None
    return tuple(n for status in pair for n in (status.st_mtime_ns, status.st_ino))


def server_context(tls: TlsSpec) -> ssl.SSLContext:
    """Load certificate and key.

    Raises:
        ConfigError: they cannot be read or do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    load(context, tls)
    return context


def load(context: ssl.SSLContext, tls: TlsSpec) -> None:
    """Put certificate and key into a context; connections that are open keep theirs.

    Raises:
        ConfigError: they cannot be read or do not belong together.
    """
    try:
        context.load_cert_chain(tls.cert, tls.key, password=_no_password)
    except OSError as error:  # ssl.SSLError is one
        reason = getattr(error, "reason", None) or error.strerror or str(error)
        if reason == "KEY_VALUES_MISMATCH":
            problem = f"`{tls.key}` is not the key of `{tls.cert}`"
        else:
            problem = f"`{tls.cert}` and `{tls.key}` cannot be read as PEM: {reason}"
        raise ConfigError(problem, hint="see serve.tls in docs/config.md") from error


def _no_password() -> str:
    raise ConfigError(
        "the key of `serve.tls` is encrypted, and nobody is there to type its password",
        hint="give a key without one, which only you may read",
    )


def _expires(server_side: ssl.SSLContext, client_side: ssl.SSLContext) -> datetime.datetime:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_side.wrap_bio(to_client, to_server)
    server = server_side.wrap_bio(to_server, to_client, server_side=True)
    for one in (client, server, client):
        try:
            one.do_handshake()
        except ssl.SSLWantReadError:
            continue
    shown = client.getpeercert() or {}
    seconds = ssl.cert_time_to_seconds(str(shown["notAfter"]))
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def _out_of_date(cert: Path, error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code == EXPIRED:
        return f"`{cert}` has expired"
    if error.verify_code == NOT_YET:
        return f"`{cert}` is not valid yet"
    return f"`{cert}` is refused: {error.verify_message}"
