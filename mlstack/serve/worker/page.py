"""The page at `/`: try the model with an image or a row, and say what was true."""

import html
import json
from pathlib import Path

from mlstack.inputs.preprocess import RowSpec
from mlstack.inputs.texts import TextSpec
from mlstack.serve.worker.answers import Headers
from mlstack.serve.worker.model import Model

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


def render(name: str, model: Model | None) -> bytes:
    """Write the page for one model; one that takes rows of a table brings the fields of a form."""
    page = _TEMPLATE.replace("{{model}}", html.escape(name))
    return page.replace('"{{fields}}"', _fields(model)).encode()


def _fields(model: Model | None) -> str:
    """List the columns as JSON: name, a value to begin with, choices, whether it is free text."""
    if model is None or not isinstance(model.spec, RowSpec):
        return "null"
    example, spec = model.example or {}, model.spec
    is_text = isinstance(spec, TextSpec)
    known = {} if isinstance(spec, TextSpec) else spec.categories
    fields = [
        {"name": n, "value": example.get(n), "choices": known.get(n), "text": is_text}
        for n in spec.fields
    ]
    # Nothing in a column's name may end the script.
    return json.dumps(fields).replace("<", "\\u003c")
