"""Who may call: decided before the server starts, so that no door is open by mistake."""

import datetime
import ipaddress
import os
import secrets
import sys
from pathlib import Path

from mlstack.config import Project
from mlstack.errors import ConfigError
from mlstack.plurals import counted
from mlstack.records import keys as record
from mlstack.records.server import AccessSpec, TlsSpec
from mlstack.serve import certificate, keys

SOON_DAYS = 14


def decide(project: Project, address: str, *, is_insecure: bool) -> AccessSpec:
    """Decide whether keys are asked for, and check them and the certificate.

    Whoever has given out keys is asked for them, on loopback too (a proxy may stand in front).
    Another address than loopback needs keys, unless the caller says `--insecure`.

    Raises:
        ConfigError: others could call, all keys are revoked, or a file is not fit for its use.
    """
    config = project.config.serve
    place = keys.path_of(project)
    known = record.read_keys(place)
    active = [*known.active(), *record.from_environment(os.environ)]
    tls = _tls(project)
    is_loopback = ipaddress.ip_address(address.partition("%")[0]).is_loopback
    if not is_insecure:
        _refuse_open_door(place, bool(known.keys), bool(active), address, is_loopback)
    _warn(address, is_loopback, is_insecure, tls is not None)
    return AccessSpec(
        keys_file=str(place),
        asks_for_keys=bool(active) and not is_insecure,
        own_key=secrets.token_hex(32),
        public=list(config.public),
        cors_origins=[origin.rstrip("/") for origin in config.cors_origins],
        tls=tls,
    )


def _refuse_open_door(
    place: Path, had_keys: bool, has_keys: bool, address: str, is_loopback: bool
) -> None:
    if had_keys and not has_keys:
        raise ConfigError(
            f"every API key in `{place}` is revoked, so nobody could call",
            hint="type `mlstack serve keys add NAME`; or delete the file to ask for no keys",
        )
    if not is_loopback and not has_keys:
        raise ConfigError(
            f"other machines reach `{address}`, and there is no API key",
            hint="type `mlstack serve keys add NAME` (without a project set "
            f"`{record.ENVIRONMENT}`), or let everybody call with `--insecure`",
        )


def _warn(address: str, is_loopback: bool, is_insecure: bool, has_tls: bool) -> None:
    if is_loopback:
        return
    if is_insecure:
        sys.stderr.write(f"warning: everybody who reaches {address} may call (--insecure)\n")
    elif not has_tls:
        sys.stderr.write(
            f"warning: keys travel to {address} in plain text; set `serve.tls`, "
            "or let a proxy do HTTPS\n"
        )


def _tls(project: Project) -> TlsSpec | None:
    config = project.config.serve.tls
    if config is None:
        return None
    spec = TlsSpec(cert=str(project.root / config.cert), key=str(project.root / config.key))
    ends = certificate.check(spec)
    left = ends - datetime.datetime.now(datetime.UTC)
    if left.days < SOON_DAYS:
        sys.stderr.write(
            f"warning: `{spec.cert}` expires on {ends:%Y-%m-%d} ({counted(left.days, 'day')})\n"
        )
    return spec
