"""Decode and resize images: Pillow and numpy, one code for training, verification and serving.

The result is uint8; scaling and normalising belong into the model's graph.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mlstack import packed
from mlstack.errors import ConfigError, DataError
from mlstack.inputs.stored import convert

MAX_PIXELS = 64_000_000
# Pillow warns of what `decode` refuses a line later.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
# Bytes come from anyone, whatever the file is called: of its other formats Pillow hands EPS to
# Ghostscript, a program of its own. The JPEGs of phones that hold several pictures are JPEG, too.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "WEBP", "TIFF")

# How pixels are made, by the words of a signature: a package keeps its own. The numbers only grow;
# decoded images are kept by them.
WHOLE, SCALED = "bilinear", "jpeg-scaled-bilinear"
DECODERS = {WHOLE: 1, SCALED: 2}
# A JPEG is decoded at a half, a quarter or an eighth that leaves this many times what is asked.
SPARE = 2


@dataclass(frozen=True)
class ImageSpec:
    """How bytes become an array of shape (height, width, channels)."""

    height: int
    width: int
    channels: int = 3  # 1 is grey, 3 is RGB
    resize: str = SCALED

    def __post_init__(self) -> None:
        """Refuse a size that no image can have, before an image is blamed for it.

        Raises:
            ConfigError: there is no such size, or no such number of channels.
        """
        if self.channels not in (1, 3):
            raise ConfigError(
                f"images have 1 channel (grey) or 3 (RGB), not {self.channels}",
                hint="write `channels: 1` or 3 under data.args",
            )
        if self.resize not in DECODERS:
            raise ConfigError(
                f"images are not resized by `{self.resize}`", hint=f"one of {', '.join(DECODERS)}"
            )
        if min(self.height, self.width) < 1 or self.height * self.width > MAX_PIXELS:
            raise ConfigError(
                f"images of {self.height} x {self.width} pixels are not possible",
                hint=f"write another size under data.args, of {MAX_PIXELS:,} pixels at most",
            )

    def to_json(self) -> dict[str, Any]:
        """Give what `signature.json` keeps under `preprocess`."""
        return {"kind": "image", **asdict(self)}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "ImageSpec":
        """Read what `to_json` gave.

        Raises:
            DataError: it describes something else.
        """
        return convert(stored, "image", cls, ("height", "width", "channels", "resize"))

    @property
    def spare_px(self) -> int:
        """Side in pixels that a JPEG must keep when it is decoded small; 0 decodes it whole."""
        return SPARE * max(self.height, self.width) if self.resize == SCALED else 0


def decode(content: bytes, spec: ImageSpec) -> np.ndarray:
    """Turn the bytes of an image file into uint8 of shape (height, width, channels).

    Turned as its EXIF says, transparency laid on white, 16-bit scaled to 8, resized bilinearly
    with antialiasing (Pillow). A JPEG of four times the size or more is decoded small, for which
    libjpeg leaves out frequencies: nearly four times faster on photographs of 12 megapixels.

    Raises:
        DataError: the bytes are not an image, are cut off, or are unreasonably large.
    """
    with _opened(content) as image:
        if spec.spare_px:
            image.draft(None, (spec.spare_px, spec.spare_px))  # of a JPEG; nothing for any other
        return to_array(image, spec)


@dataclass(frozen=True)
class Look:
    """What an image file is, beside its pixels."""

    width: int
    height: int
    mode: str  # as Pillow names it: L, RGB, RGBA, P, I;16


def look(content: bytes, spec: ImageSpec) -> tuple[Look, np.ndarray]:
    """Say what an image is, and decode it to compare it with others.

    Nearly as `decode` does, but a large JPEG is decoded small: several times faster, and all of it
    is read, so damage shows.

    Raises:
        DataError: as `decode`.
    """
    with _opened(content) as image:
        seen = Look(image.width, image.height, image.mode)
        image.draft("L" if spec.channels == 1 else "RGB", (spec.width, spec.height))
        return seen, to_array(image, spec)


def thumbnail(content: bytes, side_px: int) -> Image.Image:
    """Decode an image as `decode` does, but small and in its own proportions.

    Raises:
        DataError: as `decode`.
    """
    with _opened(content) as image:
        image.draft("RGB", (2 * side_px, 2 * side_px))  # a large JPEG is decoded small
        plain = _flatten(ImageOps.exif_transpose(image)).convert("RGB")
        plain.thumbnail((side_px, side_px), Image.Resampling.BILINEAR)
        return plain


@contextmanager
def _opened(content: bytes) -> Iterator[Image.Image]:
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(
                    f"the image has {image.width} x {image.height} pixels; "
                    f"at most {MAX_PIXELS} are read"
                )
            yield image
    except UnidentifiedImageError as error:
        raise DataError(f"not an image of these kinds: {', '.join(FORMATS)}") from error
    except Image.DecompressionBombError as error:  # Pillow's own limit; it names only the product
        raise DataError(
            f"the image has more than {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels; "
            f"at most {MAX_PIXELS} are read"
        ) from error
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"the image is damaged: {error}") from error


def load(path: str | Path, spec: ImageSpec) -> np.ndarray:
    """Read an image file: uint8 of shape (height, width, channels).

    Raises:
        DataError: the file is missing or not an image; the path is named.
    """
    try:
        content = packed.read(path)
    except OSError as error:
        raise DataError(f"cannot read `{path}`: {error.strerror}") from error
    try:
        return decode(content, spec)
    except DataError as error:
        raise DataError(f"{path}: {error.problem}", hint="replace or remove the file") from error


def to_array(image: Image.Image, spec: ImageSpec) -> np.ndarray:
    """Turn an open image into uint8 of shape (height, width, channels); it is turned in place."""
    ImageOps.exif_transpose(image, in_place=True)  # a copy costs as much as the whole conversion
    plain, mode = _flatten(image), "L" if spec.channels == 1 else "RGB"
    if plain.mode != mode:
        plain = plain.convert(mode)
    if plain.size != (spec.width, spec.height):
        plain = plain.resize((spec.width, spec.height), Image.Resampling.BILINEAR)
    array = np.asarray(plain, dtype=np.uint8)
    return array.reshape(spec.height, spec.width, spec.channels)


def _flatten(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        # Pillow clips when it converts these to 8 bits; a 16-bit image is scaled instead.
        values = np.asarray(image, dtype=np.float64)
        scale = 255 / 65535 if values.size and values.max() > 255 else 1.0
        return Image.fromarray((values * scale).round().clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(ground, layer)
    return image


CHUNK_PIXELS = 1 << 17
FEATURES = ("brightness", "contrast", "sharpness", "center_x", "center_y")


def features(batch: np.ndarray) -> np.ndarray:
    """Describe images by a few plain numbers that drift is measured on.

    Mean and deviation of the brightness, mean absolute difference of horizontal neighbours, and
    the centre of the ink (distance from the border's brightness), all between 0 and 1.

    Args:
        batch: uint8, shape (images, height, width, channels).

    Returns:
        float32, shape (images, 5), in the order of `FEATURES`.
    """
    count, height, width, _ = batch.shape
    step = max(1, CHUNK_PIXELS // (height * width))
    pieces = [_features(batch[start : start + step]) for start in range(0, count, step)]
    return np.concatenate(pieces) if pieces else np.zeros((0, len(FEATURES)), np.float32)


def _features(batch: np.ndarray) -> np.ndarray:
    """Describe so few images that what is computed between stays in the processor's caches."""
    count, height, width, channels = batch.shape
    light = batch[..., 0].astype(np.uint16)
    for channel in range(1, channels):  # a mean over so short an axis is slow
        light += batch[..., channel]
    grey = np.multiply(light, np.float32(1 / (255 * channels)), dtype=np.float32)
    mean = grey.mean(axis=(1, 2))
    border = np.concatenate([grey[:, 0, :], grey[:, -1, :], grey[:, :, 0], grey[:, :, -1]], axis=1)
    ink = np.abs(grey - np.median(border, axis=1)[:, None, None])
    columns, rows = ink.sum(axis=1), ink.sum(axis=2)
    mass = np.maximum(columns.sum(axis=1), 1e-6)
    sharpness = np.zeros(count)
    if width > 1:
        steps = np.abs(np.diff(grey, axis=2))
        sharpness = steps.mean(axis=(1, 2))
    grey -= mean[:, None, None]
    variance = np.einsum("ijk,ijk->i", grey, grey) / (height * width)
    return np.stack(
        [
            mean,
            np.sqrt(variance),
            sharpness,
            columns @ _centres(width) / mass,
            rows @ _centres(height) / mass,
        ],
        axis=1,
    ).astype(np.float32)


def _centres(size: int) -> np.ndarray:
    return (np.arange(size, dtype=np.float32) + 0.5) / size
