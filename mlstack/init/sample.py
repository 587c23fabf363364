"""Unpack what a template ships: images as one sheet of tiles, or a table."""

import gzip
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from mlstack import files
from mlstack.init.catalog import SampleData, SampleTable
from mlstack.init.dataset import Copied, Dataset, write_card
from mlstack.inputs import tables
from mlstack.records.dataset import LABELS, write_labels

REPORT_EVERY = 100
IMAGE_SIZE = 16
TABLE = "table.csv"


def unpack(sample: SampleData, folder: Path) -> Generator[Copied, None, Dataset]:
    """Write one PNG a tile and the labels of all but the last ones below `folder`/data."""
    labels = sample.labels.read_text().strip()
    source = folder / "data" / sample.name
    (source / "images").mkdir(parents=True)
    sheet = np.asarray(Image.open(sample.sheet, formats=["PNG"]).convert("L"))
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


def unpack_table(sample: SampleTable, folder: Path) -> Generator[Copied, None, Dataset]:
    """Write `table.csv` below `folder`/data."""
    source = folder / "data" / sample.name
    source.mkdir(parents=True)
    content = gzip.decompress(sample.sheet.read_bytes())
    files.write_bytes(source / TABLE, content)
    table = tables.read(source / TABLE)
    labels = [tables.class_of(value) for value in table[sample.label].to_pylist()]
    yield Copied(text="unpacking", done=len(labels), total=len(labels))
    dataset = Dataset(
        name=sample.name,
        labels=labels,
        images=len(labels),
        size_bytes=len(content),
        image_size=0,
        channels=0,
        own=False,
        unit="rows",
    )
    about = [("what", sample.origin), ("source", sample.source), ("licence", sample.licence)]
    write_card(folder, dataset, about)
    return dataset


def _name(number: int) -> str:
    return f"images/{number:04d}.png"
