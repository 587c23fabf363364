"""The settings that AWS tools share: keys, region and endpoint, from environment and files."""

import configparser
import os
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

# What a profile may hold and still be understood here; a role or a login is left to botocore.
PLAIN = {
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "region",
    "endpoint_url",
    "output",
}
# Environment variables that change who asks or where, and are left to botocore.
STRANGE = ("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")


@dataclass(frozen=True)
class Access:
    """How to reach an S3 server; without keys it is asked anonymously."""

    key: str | None
    secret: str | None
    token: str | None
    region: str | None
    endpoint: str | None  # URL; None is AWS itself


def access(options: dict[str, str]) -> Access | None:
    """Find keys, region and endpoint as botocore would.

    Args:
        options: `access_key_id`, `secret_access_key`, `session_token`, `region`, `endpointurl`,
            `profile` and `allow_anonymous_login` as DVC names them; they win.

    Returns:
        How to reach the server; None when something plays a part that only botocore knows: a role,
        a login, a proxy, the keys of a machine in the cloud.
    """
    profile = _profile(options.get("profile") or os.getenv("AWS_PROFILE") or "default")
    if not set(profile) <= PLAIN or any(os.getenv(name) for name in STRANGE):
        return None
    endpoint = (
        options.get("endpointurl")
        or os.getenv("AWS_ENDPOINT_URL_S3")
        or os.getenv("AWS_ENDPOINT_URL")
        or profile.get("endpoint_url")
    )
    if endpoint and not _is_plain(endpoint):
        return None
    region = (
        options.get("region")
        or os.getenv("AWS_REGION")
        or os.getenv("AWS_DEFAULT_REGION")
        or profile.get("region")
        or ("us-east-1" if endpoint else None)
    )
    anonymous = options.get("allow_anonymous_login", "").lower() == "true"
    key, secret, token = (None, None, None) if anonymous else _keys(options, profile)
    return Access(key, secret, token, region, endpoint) if anonymous or (key and secret) else None


def _keys(
    options: dict[str, str], profile: dict[str, str]
) -> tuple[str | None, str | None, str | None]:
    """Take all three from one place: keys of two owners never mix."""
    names = ("access_key_id", "secret_access_key", "session_token")
    if options.get(names[0]):
        return (options[names[0]], options.get(names[1]), options.get(names[2]))
    if os.getenv("AWS_ACCESS_KEY_ID") and not options.get("profile"):
        return tuple(os.getenv(f"AWS_{name.upper()}") for name in names)  # type: ignore[return-value]
    return tuple(profile.get(f"aws_{name}") for name in names)  # type: ignore[return-value]


def _profile(name: str) -> dict[str, str]:
    home = Path.home() / ".aws"
    config = Path(os.getenv("AWS_CONFIG_FILE") or home / "config").expanduser()
    secrets = Path(os.getenv("AWS_SHARED_CREDENTIALS_FILE") or home / "credentials").expanduser()
    title = name if name == "default" else f"profile {name}"
    return _section(config, title) | _section(secrets, name)


def _section(path: Path, title: str) -> dict[str, str]:
    parser = configparser.RawConfigParser()
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        return {"unreadable": str(path)}  # botocore says what is wrong with it
    return dict(parser[title]) if parser.has_section(title) else {}


def _is_plain(endpoint: str) -> bool:
    """Tell whether a URL is a bare address that no proxy stands before."""
    parts = urlsplit(endpoint)
    bare = parts.scheme in ("http", "https") and parts.netloc and not parts.path.strip("/")
    proxied = parts.scheme in urllib.request.getproxies()
    return bool(bare) and (not proxied or bool(urllib.request.proxy_bypass(parts.netloc)))
