"""Odd images: what they decode to, and that training, verification and serving decode alike."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from odd_images import ODD, SIDE, encoded, pixels
from PIL import Image, ImageOps

from mlstack.errors import ConfigError, DataError
from mlstack.inputs import decoded, images, preprocess
from mlstack.inputs.images import ImageSpec
from mlstack.records import dataset

COLOUR, GREY = ImageSpec(16, 16, 3), ImageSpec(16, 16, 1)
GOLDEN = Path(__file__).parents[1] / "formats" / "golden"
SAME_SIZE = ImageSpec(SIDE, SIDE + 4, 3)
# EXIF orientation -> how the stored pixels become upright ones, (rows, columns, channels).
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("spec", [COLOUR, GREY], ids=["colour", "grey"])
def test_training_verification_and_serving_decode_to_the_same_bytes(
    tmp_path: Path, spec: ImageSpec
) -> None:
    rows = []
    for name, content in ODD.items():
        (tmp_path / name).write_bytes(content())
        rows.append({"path": str(tmp_path / name), "label": "a", "target": 0, "split": "train"})
    table = pa.Table.from_pylist(rows, schema=dataset.EXAMPLES_SCHEMA)

    trained, places = decoded.images(tmp_path / ".mlstack/runs/r/examples.parquet", table, spec)

    for name, place in zip(ODD, places, strict=True):
        path = tmp_path / name
        served = images.decode(path.read_bytes(), spec)
        assert trained[place].tobytes() == served.tobytes(), name
        assert preprocess.load(path, spec).tobytes() == served.tobytes(), name


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_jpeg_is_decoded_small_and_looks_the_same(orientation: int) -> None:
    content = ODD["large.jpg" if orientation == 1 else "large-turned.jpg"]()
    with Image.open(io.BytesIO(content)) as image:
        upright = ImageOps.exif_transpose(image)
    whole = np.asarray(upright.resize((16, 16), Image.Resampling.BILINEAR))

    found = images.decode(content, COLOUR)

    moved = np.abs(found.astype(int) - whole)
    assert 0 < moved.mean() < 1  # of 255
    assert moved.max() < 8


def test_a_package_from_before_large_jpegs_were_decoded_small_keeps_its_pixels() -> None:
    signature = json.loads((GOLDEN / "package.signature.v1.json").read_bytes())
    content = ODD["large.jpg"]()
    with Image.open(io.BytesIO(content)) as image:
        whole = image.convert("L").resize((16, 16), Image.Resampling.BILINEAR)

    spec = preprocess.from_json(signature["preprocess"])

    assert preprocess.decode(content, spec).tobytes() == whole.tobytes()
    assert preprocess.from_json(GREY.to_json()) == GREY
    assert images.decode(content, GREY).tobytes() != whole.tobytes()
    with pytest.raises(DataError, match="cannot preprocess"):
        preprocess.from_json(GREY.to_json() | {"resize": "of a later version"})


@pytest.mark.parametrize("name", [name for name in ODD if name.startswith("turned-")])
def test_images_are_turned_as_their_exif_says(name: str) -> None:
    content = ODD[name]()
    with Image.open(io.BytesIO(content)) as image:
        stored = np.asarray(image) if name.endswith(".jpg") else pixels(1, 3).astype(np.uint8)
    upright = UPRIGHT[int(name[len("turned-")])](stored)

    found = images.decode(content, ImageSpec(*upright.shape))

    assert found.tobytes() == np.ascontiguousarray(upright).tobytes()


@pytest.mark.parametrize("name", ["deep.png", "deep.tiff"])
def test_sixteen_bits_are_scaled_to_eight_not_clipped(name: str) -> None:
    stored = pixels(3, top=65536)

    found = images.decode(ODD[name](), ImageSpec(SIDE, SIDE + 4, 1))

    assert found[..., 0].tolist() == np.round(stored * 255 / 65535).astype(int).tolist()


def test_transparency_lies_on_white() -> None:
    stored = pixels(5, 4)
    share = stored[..., 3:] / 255
    expected = stored[..., :3] * share + 255 * (1 - share)

    found = images.decode(ODD["alpha.png"](), SAME_SIZE)

    assert np.abs(found - expected).max() <= 1


def test_the_transparent_colour_of_a_palette_is_white() -> None:
    with Image.open(io.BytesIO(ODD["palette-transparent.png"]())) as image:
        is_clear = np.asarray(image) == 3

    found = images.decode(ODD["palette-transparent.png"](), SAME_SIZE)

    assert is_clear.any()
    assert (found[is_clear] == 255).all()
    opaque = images.decode(ODD["palette.png"](), SAME_SIZE)
    assert (found[~is_clear] == opaque[~is_clear]).all()


def test_grey_and_bilevel_images_have_three_equal_channels_in_colour() -> None:
    for name in ("grey.png", "grey.jpg", "bilevel.png"):
        found = images.decode(ODD[name](), SAME_SIZE)

        assert (found == found[..., :1]).all(), name
    assert set(np.unique(images.decode(ODD["bilevel.png"](), SAME_SIZE))) == {0, 255}


def test_a_smaller_size_is_the_mean_of_what_it_covers() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (8, 8))  # (8, 16), a stripe a column

    found = images.decode(encoded(Image.fromarray(stripes), "PNG"), ImageSpec(4, 4, 1))

    # Without antialiasing, it would be black or white.
    assert (np.abs(found.astype(int) - 128) < 30).all()


@pytest.mark.parametrize("size", [(0, 8, 1), (8, -1, 3), (100_000, 100_000, 1), (8, 8, 7)])
def test_a_size_that_no_image_has_is_no_fault_of_an_image(size: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError, match=r"images (of|have)"):
        ImageSpec(*size)


EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 20 20
%%EndComments
newpath 0 0 moveto 20 20 lineto stroke
showpage
%%EOF
"""
READERS = """
import sys
from mlstack.errors import DataError
from mlstack.inputs import images

content, spec = open(sys.argv[1], "rb").read(), images.ImageSpec(16, 16)
for read in (images.decode, images.look, lambda given, spec: images.thumbnail(given, 16)):
    try:
        read(content, spec)
    except DataError:
        print("refused")
"""


@pytest.mark.parametrize(
    ("side", "said"), [(9_000, "has 9000 x 9000 pixels"), (20_000, "more than 178956970 pixels")]
)
def test_an_image_of_too_many_pixels_is_large_not_damaged(side: int, said: str) -> None:
    with pytest.raises(DataError, match=said) as refused:
        images.decode(encoded(Image.new("1", (side, side)), "PNG"), GREY)

    assert "at most 64000000 are read" in refused.value.problem
    assert "damaged" not in refused.value.problem


def test_bytes_never_start_another_program(tmp_path: Path) -> None:
    started = tmp_path / "started"
    (tmp_path / "picture.png").write_bytes(EPS)
    for name in ("gs", "gswin32c", "gswin64c"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho $0 $* >> {started}\necho 10.0\n")
        (tmp_path / name).chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])

    done = subprocess.run(
        [sys.executable, "-c", READERS, tmp_path / "picture.png"],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout.split() == ["refused"] * 3, done.stderr
    assert not started.exists()


def test_each_kind_that_is_read_is_read() -> None:
    image = Image.fromarray(pixels(1, 3).astype(np.uint8))
    several = encoded(image, "MPO", save_all=True, append_images=[image])  # as phones write it

    for content in (several, *(encoded(image, kind) for kind in images.FORMATS)):
        assert images.decode(content, COLOUR).shape == (16, 16, 3)


def described(picture: np.ndarray) -> list[float]:
    """Write `images.FEATURES` of one picture down as its docstring has them, in float64."""
    height, width, _ = picture.shape
    grey = picture.astype(np.float64).mean(axis=2) / 255
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    ink = np.abs(grey - np.median(border))
    columns, rows = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    sharpness = np.abs(np.diff(grey, axis=1)).mean() if width > 1 else 0.0
    return [
        grey.mean(),
        grey.std(),
        sharpness,
        (ink.sum(axis=0) * columns).sum() / ink.sum(),
        (ink.sum(axis=1) * rows).sum() / ink.sum(),
    ]


@pytest.mark.parametrize(
    "shape", [(5, 8, 6, 3), (3, 9, 7, 1), (2, 4, 1, 3), (70, 64, 64, 3), (1, 400, 500, 3)]
)
def test_features_are_those_of_each_picture_whatever_lies_beside_it(
    shape: tuple[int, int, int, int],
) -> None:
    batch = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    found = images.features(batch)

    assert found.dtype == np.float32
    expected = [described(picture) for picture in batch]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_picture_of_one_colour_has_no_contrast_and_no_edges() -> None:
    (found,) = images.features(np.full((1, 32, 32, 3), 200, np.uint8))

    assert found[0] == pytest.approx(200 / 255)
    assert found[1:].tolist() == pytest.approx([0, 0, 0, 0], abs=1e-6)


def test_no_pictures_have_no_features() -> None:
    assert images.features(np.zeros((0, 8, 8, 3), np.uint8)).shape == (0, len(images.FEATURES))
