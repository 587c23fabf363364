"""Ask a running server for predictions, as any client does."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec

from mlstack.errors import BusyError, ConfigError, DataError, MlstackError, StepError
from mlstack.inputs import rowfiles, tables
from mlstack.records import keys
from mlstack.serve.results import Predicted, Predictions

ROWS = 1000  # of a table, sent at once


def ask(url: str, names: list[Path]) -> Predictions:
    """Send each file to a server; of a table, so many rows at once.

    Raises:
        ConfigError: it is no URL, or wants an API key.
        DataError: a file or a row is refused.
        BusyError: nobody answers, or not now.
    """
    answers: list[Predicted] = []
    body: dict[str, Any] = {}
    try:
        headers = keys.own_headers(os.environ)
        with httpx.Client(base_url=url, timeout=30, headers=headers) as client:
            asks = any(rowfiles.is_one(name) or name.suffix == rowfiles.TEXT for name in names)
            kinds = _kinds(client) if asks else None
            for name in names:
                for body in _bodies(client, name, kinds):
                    answers.extend(_answered(name, body))
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise ConfigError(f"`{url}` is no URL", hint="like http://127.0.0.1:8000") from error
    except httpx.HTTPError as error:
        raise _unanswered(url, error) from error
    return Predictions(model=body["model"], version=body["version"], predictions=answers)


def _unanswered(url: str, error: httpx.HTTPError) -> MlstackError:
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return ConfigError(
            f"the certificate of `{url}` is not trusted here: {error}",
            hint="if it is yours, name its file: SSL_CERT_FILE=cert.pem",
        )
    hint = "is `mlstack serve` running?"
    is_cut_off = isinstance(error, httpx.RemoteProtocolError | httpx.ReadError)
    if is_cut_off and url.startswith("http://"):
        hint = f"does it speak HTTPS? then type https://{url.removeprefix('http://')}"
    return BusyError(f"`{url}` does not answer: {error}", hint=hint)


@dataclass(frozen=True)
class _Kinds:
    """What the columns of a row are."""

    texts: list[str]
    numbers: list[str]


def _kinds(client: httpx.Client) -> _Kinds | None:
    """Ask what the columns of a row are; None of a model that takes no rows."""
    answer = client.get("/openapi.json")
    row = answer.json()["components"]["schemas"].get("Row") if answer.is_success else None
    if row is None:
        return None
    kinds = {name: kind.get("type", []) for name, kind in row["properties"].items()}
    return _Kinds(
        [name for name, kind in kinds.items() if "string" in kind and "boolean" not in kind],
        [name for name, kind in kinds.items() if "number" in kind],
    )


def _bodies(client: httpx.Client, name: Path, kinds: _Kinds | None) -> Iterator[dict[str, Any]]:
    """Give what the server answers to a file; of many rows, with the first row's number."""
    if kinds is None or not rowfiles.is_one(name):
        content = name.read_bytes()
        if kinds is not None and rowfiles.is_text(name, kinds.texts, kinds.numbers):
            content = tables.encode_row(rowfiles.read_text(name, kinds.texts[0]))
        body = _posted(client, f"`{name}`", content, "application/octet-stream")
        if "prediction" not in body:
            raise DataError(
                f"`{name}` is answered with several rows, or with tensors",
                hint="`serve predict` takes an image or a row a file, or CSV, Parquet, JSON lines",
            )
        yield body
        return
    rows = rowfiles.read(name, kinds.texts, kinds.numbers)
    for first in range(0, len(rows), ROWS):
        some = rows[first : first + ROWS]
        of_these = f"`{name}`" if len(rows) <= ROWS else f"`{name}`, counted after row {first},"
        sent = msgspec.json.encode({"rows": some})
        yield _posted(client, of_these, sent, "application/json") | {"first": first}


def _posted(client: httpx.Client, what: str, content: bytes, kind: str) -> dict[str, Any]:
    answer = client.post("/predict", content=content, headers={"content-type": kind})
    try:
        body = answer.json()
    except ValueError:
        body = {}
    if answer.status_code == 200 and isinstance(body, dict) and "model" in body:
        return body
    problem = body.get("error", "no JSON") if isinstance(body, dict) else "no JSON"
    text = f"{what} is refused with {answer.status_code}: {problem}"
    if answer.status_code == 401:
        raise ConfigError(text, hint=f"give your key in `{keys.OWN}`")
    if answer.status_code in (429, 503):
        raise BusyError(text, hint="try again")
    if 400 <= answer.status_code < 500:
        raise DataError(text, hint=f"{client.base_url}/openapi.json says what the model takes")
    raise StepError(text, hint="see what the server wrote")


def _answered(name: Path, body: dict[str, Any]) -> list[Predicted]:
    if "first" not in body:
        return [_predicted(name, None, body)]
    return [_predicted(name, body["first"] + n, one) for n, one in enumerate(body["predictions"])]


def _predicted(name: Path, row: int | None, body: dict[str, Any]) -> Predicted:
    fields = {
        key: body[key] for key in ("prediction", "confidence", "probabilities", "prediction_id")
    }
    said = {"kind": "serve.predicted", "file": str(name), "row": row, **fields}
    return msgspec.convert(said, Predicted)
