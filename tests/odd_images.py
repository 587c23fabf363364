"""Image files of every sort that people have: turned, with a palette, 16-bit, grey, transparent."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

SIDE = 20


def pixels(seed: int, *shape: int, top: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, top, (SIDE, SIDE + 4, *shape))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def turned(orientation: int, kind: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(pixels(1, 3).astype(np.uint8))
    options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(kind, {})
    return encoded(image, kind, exif=exif, **options)


def turned_tiff(mode: str) -> bytes:
    """Give a TIFF of one frame that Pillow maps into memory, given its path."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.fromarray(pixels(1, 4).astype(np.uint8)).convert(mode), "TIFF", exif=exif)


def palette(*, transparent: bool) -> bytes:
    image = Image.fromarray(pixels(2, 3).astype(np.uint8)).quantize(16)
    return encoded(image, "PNG", **({"transparency": 3} if transparent else {}))


def deep(kind: str) -> bytes:
    image = Image.fromarray(pixels(3, top=65536).astype(np.uint16))
    return encoded(image, kind)


def plain(mode: str, kind: str = "PNG") -> bytes:
    channels = len(Image.new(mode, (1, 1)).getbands())
    values = pixels(4, *([channels] if channels > 1 else [])).astype(np.uint8)
    return encoded(Image.fromarray(values, mode=None).convert(mode), kind)


def with_alpha(mode: str) -> bytes:
    channels = 4 if mode == "RGBA" else 2
    image = Image.new(mode, (SIDE + 4, SIDE))
    values = pixels(5, channels).astype(np.uint8)
    image.frombytes(values.tobytes())
    return encoded(image, "PNG")


def cmyk() -> bytes:
    image = Image.new("CMYK", (SIDE + 4, SIDE))
    image.frombytes(pixels(6, 4).astype(np.uint8).tobytes())
    return encoded(image, "JPEG", quality=95)


def bilevel() -> bytes:
    return encoded(Image.fromarray(pixels(7, top=2).astype(bool)), "PNG")


def large(orientation: int) -> bytes:
    """Give a photograph that is decoded small: its smaller side has ten times the 20 pixels."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    down, across = np.mgrid[0 : 10 * SIDE, 0 : 13 * SIDE]
    waves = [100 * np.sin(across / (9 + 5 * c) + down / 31) for c in range(3)]
    values = 127 + np.stack(waves, -1) + np.random.default_rng(9).normal(0, 6, (*down.shape, 3))
    image = Image.fromarray(values.clip(0, 255).astype(np.uint8))
    return encoded(image, "JPEG", quality=90, exif=exif)


# name of a file -> its bytes
ODD: dict[str, Callable[[], bytes]] = {
    **{f"turned-{number}.jpg": (lambda n=number: turned(n)) for number in range(1, 9)},
    **{
        f"turned-{number}.{kind}": (lambda n=number, k=kind: turned(n, k.upper()))
        for number in (3, 5, 6, 8)
        for kind in ("tiff", "png", "webp")
    },
    "grey-turned.tiff": lambda: turned_tiff("L"),
    "alpha-turned.tiff": lambda: turned_tiff("RGBA"),
    "palette.png": lambda: palette(transparent=False),
    "palette-transparent.png": lambda: palette(transparent=True),
    "palette.gif": lambda: encoded(
        Image.fromarray(pixels(2, 3).astype(np.uint8)).quantize(9), "GIF"
    ),
    "deep.png": lambda: deep("PNG"),
    "deep.tiff": lambda: deep("TIFF"),
    "grey.png": lambda: plain("L"),
    "grey.jpg": lambda: plain("L", "JPEG"),
    "colour.webp": lambda: encoded(
        Image.fromarray(pixels(8, 3).astype(np.uint8)), "WEBP", lossless=True
    ),
    "colour.bmp": lambda: plain("RGB", "BMP"),
    "alpha.png": lambda: with_alpha("RGBA"),
    "grey-alpha.png": lambda: with_alpha("LA"),
    "cmyk.jpg": cmyk,
    "bilevel.png": bilevel,
    "large.jpg": lambda: large(1),
    "large-turned.jpg": lambda: large(6),
}
