"""Images as a browser can show them, and small ones where many are shown at once."""

import io
from pathlib import Path

from mlstack.inputs import images

KINDS = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
    ".gif": "image/gif",
}
LARGEST_PX = 4096  # of a side, where a file is drawn anew
SMALL_PX = 192
SMALL_BYTES = 1 << 16  # files up to this size are sent as they are


def kind_of(file: Path) -> str:
    """Name the content type of a file."""
    return KINDS.get(file.suffix.lower(), "application/octet-stream")


def is_fit(file: Path, *, small: bool) -> bool:
    """Tell whether a file can be sent as it is, to be shown large or small."""
    is_light = not small or file.stat().st_size <= SMALL_BYTES
    return is_light and file.suffix.lower() in KINDS


def draw(file: Path, *, small: bool) -> bytes:
    """Draw an image as PNG: a TIFF, which most browsers cannot show, or a small one.

    Raises:
        DataError: it is no image, damaged, or too large.
    """
    out = io.BytesIO()
    images.thumbnail(file.read_bytes(), SMALL_PX if small else LARGEST_PX).save(
        out, "PNG", compress_level=1
    )
    return out.getvalue()
