"""The page at `/`: try the model with an image, and say what was true."""

import html
from pathlib import Path

from mlstack.serve.worker.answers import Headers

HEADERS: Headers = [
    (b"content-type", b"text/html; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
        b"img-src blob: data:; connect-src 'self'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
]
_TEMPLATE = Path(__file__).with_name("page.html").read_text(encoding="utf-8")


def render(model: str) -> bytes:
    """Write the page for one model."""
    return _TEMPLATE.replace("{{model}}", html.escape(model)).encode()
