"""Raw inputs of any kind, images, texts or rows of a table, behind the same few questions."""

from pathlib import Path
from typing import Any

import numpy as np

from mlstack.errors import DataError
from mlstack.inputs import images, tables
from mlstack.inputs.images import ImageSpec
from mlstack.inputs.tables import TableSpec
from mlstack.inputs.texts import TextSpec

RowSpec = TableSpec | TextSpec  # of what comes as JSON
Spec = ImageSpec | RowSpec


def from_json(stored: dict[str, Any]) -> Spec:
    """Read what a signature keeps under `preprocess`.

    Raises:
        DataError: this mlstack does not know it.
    """
    if stored.get("kind") == "table":
        return TableSpec.from_json(stored)
    if stored.get("kind") == "text":
        return TextSpec.from_json(stored)
    return ImageSpec.from_json(stored)


def shape(spec: Spec) -> list[int]:
    """Give the shape of one encoded input."""
    if isinstance(spec, TableSpec):
        return [spec.width]
    if isinstance(spec, TextSpec):
        return [spec.length]
    return [spec.height, spec.width, spec.channels]


def datatype(spec: Spec) -> str:
    """Name the numbers of an encoded input, as numpy does."""
    if isinstance(spec, TableSpec):
        return "float32"
    return "int32" if isinstance(spec, TextSpec) else "uint8"


def features(spec: Spec) -> list[str]:
    """Name what is monitored of an input."""
    return list(images.FEATURES) if isinstance(spec, ImageSpec) else spec.columns


def load(path: str | Path, spec: Spec) -> np.ndarray:
    """Read a file of one input: an image, or a row as JSON.

    Raises:
        DataError: it is missing or something else; the path is named.
    """
    if isinstance(spec, ImageSpec):
        return images.load(path, spec)
    try:
        row = tables.read_row(Path(path))
    except DataError as error:
        hint = tables.such_as(spec.fields) if error.hint else ""
        raise DataError(error.problem, hint=hint) from error
    try:
        return np.asarray(spec.encode([row])[0])
    except DataError as error:
        raise DataError(f"{path}: {error.problem}", hint=error.hint) from error


def decode(content: bytes, spec: Spec) -> np.ndarray:
    """Turn the bytes of one input into an array.

    Raises:
        DataError: they are something else.
    """
    if isinstance(spec, ImageSpec):
        return images.decode(content, spec)
    return np.asarray(spec.encode([tables.decode_row(content)])[0])
