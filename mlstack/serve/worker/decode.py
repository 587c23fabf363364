"""The body of `POST /predict` -> arrays: an image's bytes, JSON, rows of a table, or a form."""

import base64
import binascii
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_form

from mlstack.errors import DataError
from mlstack.inputs import images, tables
from mlstack.inputs.images import ImageSpec
from mlstack.inputs.preprocess import RowSpec
from mlstack.records.package import Tensor
from mlstack.serve.worker import numbers
from mlstack.serve.worker.answers import Refused, bad
from mlstack.serve.worker.lookup import filled
from mlstack.serve.worker.model import Model
from mlstack.serve.worker.tensors import check_shape, from_values

MAX_IMAGES = 1024
MAX_ROWS = 100_000


class PredictBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON of a request: one of the three."""

    image: str | None = None
    images: list[str] | None = None
    inputs: Any = None


@dataclass(slots=True)
class Asked:
    """What a request asks: either image files still to be decoded, or arrays."""

    contents: list[bytes]
    fields: list[str]  # where each image came from, for the error that names it
    arrays: list[np.ndarray]
    is_single: bool
    described: np.ndarray | None = None  # rows of a table: a number per column, for the log


_json = msgspec.json.Decoder(PredictBody)


def parse(body: bytes, content_type: bytes, model: Model) -> Asked:
    """Read the body as what its content type says.

    Raises:
        Refused: 400 with the field that is wrong, 415 when the model takes no images.
    """
    kind = content_type.partition(b";")[0].strip().lower()
    if not body:
        raise bad("the body is empty; send an image or JSON", "body")
    if isinstance(model.spec, RowSpec):
        return _from_table(body, model, model.spec)
    if kind == b"application/json" or (not kind.startswith(b"image/") and body[:1] == b"{"):
        return _from_json(body, model)
    is_form = kind == b"multipart/form-data"
    contents = _from_form(body, content_type) if is_form else [body]
    _needs_images(model, "content-type")
    fields = [f"file[{i}]" for i in range(len(contents))] if is_form else ["body"]
    return Asked(contents, fields, [], is_single=len(contents) == 1)


def arrays(body: bytes, content_type: bytes, model: Model) -> list[np.ndarray]:
    """Read a body all the way to the arrays that a model takes.

    Raises:
        Refused: as `parse` and `decode_images` do.
    """
    asked = parse(body, content_type, model)
    if asked.arrays:
        return asked.arrays
    assert isinstance(model.spec, ImageSpec)  # `parse` refuses images otherwise
    return [decode_images(asked, model.spec)]


def decode_images(asked: Asked, spec: ImageSpec) -> np.ndarray:
    """Decode every image of a request; uint8 of shape (images, height, width, channels).

    Raises:
        Refused: 400 naming the image that cannot be read.
    """
    decoded = []
    for content, field in zip(asked.contents, asked.fields, strict=True):
        try:
            decoded.append(images.decode(content, spec))
        except DataError as error:
            raise bad(error.problem, field) from error
    return decoded[0][None] if len(decoded) == 1 else np.stack(decoded)


def _from_json(body: bytes, model: Model) -> Asked:
    if (read := numbers.read_inputs(body, model.signature.inputs)) is not None:
        return Asked([], [], [read[0]], is_single=read[1])
    try:
        asked = _json.decode(body)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).partition(" - at `$")
        raise bad(problem, place.rstrip("`").lstrip(".") or "body") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad(f"the body is not JSON: {error}", "body") from error
    given = [name for name in ("image", "images", "inputs") if getattr(asked, name) is not None]
    if len(given) != 1:
        raise bad(f"needs one of `image`, `images` and `inputs`; got {given}", "body")
    if asked.inputs is not None:
        return _from_inputs(asked.inputs, model.signature.inputs)
    _needs_images(model, given[0])
    texts = [asked.image] if asked.image is not None else asked.images or []
    fields = ["image"] if asked.image is not None else [f"images[{i}]" for i in range(len(texts))]
    if not 0 < len(texts) <= MAX_IMAGES:
        raise bad(f"holds {len(texts)} images; 1 to {MAX_IMAGES} are answered", "images")
    contents = [_unbase64(t, f) for t, f in zip(texts, fields, strict=True)]
    return Asked(contents, fields, [], is_single=asked.image is not None)


def _from_table(body: bytes, model: Model, spec: RowSpec) -> Asked:
    """Read `{"rows": [{...}]}`, one row `{...}`, or `{"inputs": ...}` as for any model."""
    try:
        given = tables.decode_row(body)
    except DataError as error:
        raise bad(f"{error.problem}; {tables.such_as(spec.fields)}", "body") from error
    if given.keys() == {"inputs"} and "inputs" not in spec.fields:
        return _from_inputs(given["inputs"], model.signature.inputs)
    is_single = given.keys() != {"rows"} or "rows" in spec.fields
    rows = [given] if is_single else given["rows"]
    if not isinstance(rows, list) or not 0 < len(rows) <= MAX_ROWS:
        raise bad(f"must be a list of 1 to {MAX_ROWS} rows", "rows")
    for place, row in enumerate(rows):
        if not isinstance(row, dict):
            raise bad("is not an object of column and value", f"rows[{place}]")
    try:
        rows = rows if model.lookup is None else filled(model.lookup, rows)
        encoded, described = spec.read(rows)
    except DataError as error:
        field = error.where.partition("].")[2] if is_single else error.where
        raise bad(error.problem, field) from error
    contents = [tables.encode_row({name: row[name] for name in spec.fields}) for row in rows]
    return Asked(contents, [], [encoded], is_single, described)


def _from_inputs(given: Any, tensors: list[Tensor]) -> Asked:
    if len(tensors) == 1 and not isinstance(given, dict):
        array, is_single = _from_input(given, tensors[0], "inputs")
        return Asked([], [], [array], is_single)
    by_name = given if isinstance(given, dict) else {tensors[0].name: given}
    names = [tensor.name for tensor in tensors]
    if sorted(by_name) != sorted(names):
        raise bad(f"must name {names}; got {sorted(map(str, by_name))[:8]}", "inputs")
    arrays = []
    is_single = False
    for tensor in tensors:
        field = f"inputs.{tensor.name}" if isinstance(given, dict) else "inputs"
        array, is_one = _from_input(by_name[tensor.name], tensor, field)
        is_single = is_single or is_one
        arrays.append(array)
    if any(len(array) != len(arrays[0]) for array in arrays):
        raise bad("the inputs have different numbers of rows", "inputs")
    return Asked([], [], arrays, is_single)


def _from_input(given: Any, tensor: Tensor, field: str) -> tuple[np.ndarray, bool]:
    """Read the values of one input; and tell whether they are one row without a list around it."""
    array = from_values(given, tensor.datatype, field)
    is_single = array.ndim == len(tensor.shape) - 1
    if is_single:
        array = array[None]
    check_shape(array, tensor, field)
    return array, is_single


def _needs_images(model: Model, field: str) -> None:
    if not isinstance(model.spec, ImageSpec):
        raise Refused(415, "this model takes no images; send JSON with `inputs`", field=field)


def _unbase64(text: str, field: str) -> bytes:
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise bad("is not base64", field) from error


def _from_form(body: bytes, content_type: bytes) -> list[bytes]:
    contents: list[bytes] = []

    def keep(file: Any) -> None:
        if len(contents) == MAX_IMAGES:
            raise bad(f"the form holds more than {MAX_IMAGES} files", "body")
        file.file_object.seek(0)
        contents.append(file.file_object.read())

    headers = {"Content-Type": content_type, "Content-Length": str(len(body)).encode()}
    ignore: Callable[[Any], None] = lambda field: None  # noqa: E731
    try:
        parse_form(headers, io.BytesIO(body), ignore, keep)
    except (FormParserError, ValueError) as error:
        raise bad(f"the form cannot be read: {error}", "body") from error
    if not contents:
        raise bad("the form holds no file", "body")
    return contents
