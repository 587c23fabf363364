"""Small pictures of what was predicted, for the report."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from mlstack.errors import DataError
from mlstack.inputs import images
from mlstack.monitor import drift, windows
from mlstack.monitor.target import Target
from mlstack.monitor.windows import Window
from mlstack.records import package
from mlstack.records.base import read

EACH = 8
SIDE_PX = 96


@dataclass(frozen=True)
class Picture:
    """One input as a data URI, and what was answered."""

    prediction_id: str
    uri: str
    prediction: str
    confidence: float
    is_small: bool  # drawn with hard pixels


@dataclass(frozen=True)
class Pictures:
    """The inputs that are worth a look."""

    unusual: list[Picture]
    unsure: list[Picture]


def choose(log: Path, target: Target, window: Window) -> Pictures:
    """Pick the most unusual and the least confident inputs of a window, as far as logged."""
    if not window.rows:
        return Pictures([], [])
    odd = np.argsort(-drift.oddness(target.reference, window), kind="stable")[:EACH]
    confidences = window.numeric.get(drift.CONFIDENCE, np.ones(window.rows))
    unsure = np.argsort(np.nan_to_num(confidences, nan=1.0), kind="stable")[:EACH]
    ids = {int(row): window.ids[int(row)].as_py() for row in {*odd.tolist(), *unsure.tolist()}}
    asked = {name: int(window.times_us[row]) for row, name in ids.items()}
    contents = windows.inputs(log, target.model, asked)
    spec = _spec(target)
    drawn: dict[int, Picture] = {}
    for row, name in ids.items():
        thumbnail = _thumbnail(contents.get(name, b""), spec)
        if thumbnail is not None:
            said = window.classes[window.predictions[row]]
            uri, is_small = thumbnail
            drawn[row] = Picture(name, uri, said, float(confidences[row]), is_small)
    return Pictures(
        [drawn[row] for row in odd.tolist() if row in drawn],
        [drawn[row] for row in unsure.tolist() if row in drawn],
    )


def _spec(target: Target) -> images.ImageSpec | None:
    place = target.package / package.SIDE / "signature.json"
    stored = read(place, package.Signature).preprocess if place.is_file() else None
    try:
        return images.ImageSpec.from_json(stored) if stored else None
    except DataError:
        return None  # not an image model: there is nothing to draw


def _thumbnail(content: bytes, spec: images.ImageSpec | None) -> tuple[str, bool] | None:
    """Make a data URI of an input, and tell whether it is tiny; None if it is not a picture."""
    if spec is None or not content:
        return None
    shape = (spec.height, spec.width, spec.channels)
    try:
        if len(content) == np.prod(shape):  # sent as a tensor, not as a file
            array = np.frombuffer(content, np.uint8).reshape(shape)
            picture = Image.fromarray(array.squeeze() if spec.channels == 1 else array)
        else:
            picture = Image.open(io.BytesIO(content), formats=images.FORMATS)
            picture.draft("RGB", (SIDE_PX, SIDE_PX))
        picture = picture if picture.mode in ("L", "RGB") else picture.convert("RGB")
        is_small = max(picture.size) <= SIDE_PX // 2
        picture.thumbnail((SIDE_PX, SIDE_PX))
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        return None
    return _encode(picture, "PNG" if is_small else "JPEG"), is_small


def _encode(picture: Image.Image, kind: str) -> str:
    sink = io.BytesIO()
    picture.save(sink, kind, **({"quality": 80} if kind == "JPEG" else {"optimize": True}))
    encoded = base64.b64encode(sink.getvalue()).decode()
    return f"data:image/{kind.lower()};base64,{encoded}"
