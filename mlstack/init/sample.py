"""Unpack the images that a template ships as one sheet of tiles."""

from collections.abc import Generator
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from mlstack.init.catalog import SampleData
from mlstack.init.dataset import Copied, Dataset, write_card
from mlstack.records.dataset import LABELS, write_labels

REPORT_EVERY = 100
IMAGE_SIZE = 16


def unpack(sample: SampleData, folder: Path) -> Generator[Copied, None, Dataset]:
    """Write one PNG a tile and the labels of all but the last ones below `folder`/data."""
    labels = sample.labels.read_text().strip()
    source = folder / "data" / sample.name
    (source / "images").mkdir(parents=True)
    sheet = np.asarray(Image.open(sample.sheet).convert("L"))
    across = sheet.shape[1] // sample.tile
    size_bytes = 0
    for number in range(len(labels)):
        top, left = number // across * sample.tile, number % across * sample.tile
        target = source / _name(number)
        Image.fromarray(sheet[top : top + sample.tile, left : left + sample.tile]).save(target)
        size_bytes += target.stat().st_size
        if number % REPORT_EVERY == 0:
            yield Copied(text="unpacking", done=number, total=len(labels))
    known = labels[: len(labels) - sample.unlabeled]
    rows = {"path": [_name(number) for number in range(len(known))], "label": list(known)}
    write_labels(source / LABELS, pa.table(rows))
    dataset = Dataset(
        name=sample.name,
        labels=list(known),
        images=len(labels),
        size_bytes=size_bytes,
        image_size=IMAGE_SIZE,
        channels=1,
        own=False,
    )
    about = [("what", sample.origin), ("source", sample.source), ("licence", sample.licence)]
    write_card(folder, dataset, about)
    return dataset


def _name(number: int) -> str:
    return f"images/{number:04d}.png"
