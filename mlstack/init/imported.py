"""The user's own images: looked at first, all of them; copied when nothing is wrong."""

import os
import shutil
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from PIL import Image

from mlstack import files
from mlstack.errors import DataError, Mistake
from mlstack.init.dataset import Copied, Dataset, write_card
from mlstack.init.naming import plain
from mlstack.inputs.folders import CSV, labeled_files
from mlstack.inputs.images import FORMATS, SUFFIXES, ImageSpec, load
from mlstack.records.dataset import LABELS, write_labels

REPORT_EVERY = 50
GREY_MODES = frozenset({"1", "L", "LA", "I", "F", "I;16", "I;16B", "I;16L"})
SIZES = (16, 32, 64)  # what the network sees, by the pixels of most images


@dataclass(frozen=True)
class Survey:
    """What lies in the user's folder."""

    folder: Path
    labels: dict[str, str]  # path below the folder -> label
    images: list[str]  # paths of all images, labeled or not
    image_size: int
    channels: int
    others: dict[str, int]  # ending -> number of the files that are no images


def survey(folder: Path) -> Generator[Copied, None, Survey]:
    """Look at every image and its label.

    Raises:
        DataError: an image is damaged, a class is too small, the labels are wrong; all are named.
    """
    there = list(files.walk(folder)) if folder.is_dir() else []
    found = _images(folder, there)
    labels = _labels(folder)
    _check_classes(folder, Counter(labels.values()))
    images = sorted({*found, *labels})
    damaged: list[Mistake] = []
    sizes: list[int] = []
    grey = True
    for number, name in enumerate(images):
        if number % REPORT_EVERY == 0:
            yield Copied(text="checking", done=number, total=len(images))
        try:
            pixels, is_grey = _look(folder / name)
        except DataError as error:
            damaged.append(Mistake(error.problem, where=""))
            continue
        sizes.append(pixels)
        grey = grey and is_grey
    if damaged:
        raise DataError(
            f"{len(damaged)} of {len(images)} images cannot be read. Nothing was made.",
            hint="replace or remove them",
            mistakes=tuple(damaged),
        )
    middle = sorted(sizes)[len(sizes) // 2]
    size = next((size for size in SIZES if middle <= size), SIZES[-1])
    return Survey(folder, labels, images, size, 1 if grey else 3, _others(there))


def copy(found: Survey, folder: Path) -> Generator[Copied, None, Dataset]:
    """Copy the images and write their labels below `folder`/data."""
    name = plain(found.folder.resolve().name)
    source = folder / "data" / name
    size_bytes = 0
    for number, image in enumerate(found.images):
        target = source / image
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(found.folder / image, target)
        size_bytes += target.stat().st_size
        if number % REPORT_EVERY == 0:
            yield Copied(text="copying", done=number, total=len(found.images))
    rows = {"path": list(found.labels), "label": list(found.labels.values())}
    write_labels(source / LABELS, pa.table(rows))
    dataset = Dataset(
        name=name,
        labels=list(found.labels.values()),
        images=len(found.images),
        size_bytes=size_bytes,
        image_size=found.image_size,
        channels=found.channels,
        own=True,
        others=found.others,
    )
    about = [("source", "your own files; say here who made them"), ("licence", "say it here")]
    write_card(folder, dataset, about)
    return dataset


def _images(folder: Path, there: list[Path]) -> list[str]:
    """List the images, if there is a folder at all; without any, the wrong thing was named."""
    found = [
        path.relative_to(folder).as_posix() for path in there if path.suffix.lower() in SUFFIXES
    ]
    if folder.is_dir() and not found and not (folder / CSV).is_file():
        raise DataError(
            f"`{folder}` holds no image",
            hint="for a table or texts say --template tabular or text-classification, too",
        )
    return found


def _others(there: list[Path]) -> dict[str, int]:
    """Count the files that are neither images nor labels, nor what a file manager leaves."""
    endings = Counter(
        path.suffix.lower() or "no ending"
        for path in there
        if path.suffix.lower() not in SUFFIXES
        and path.name.lower() not in (CSV, LABELS, "thumbs.db", "desktop.ini")
    )
    return dict(endings.most_common())


def _labels(folder: Path) -> dict[str, str]:
    labels: dict[str, str] = {}
    for written, label in labeled_files(folder):
        name = Path(os.path.normpath(written)).as_posix()  # ./a.png and a.png are one file
        if labels.setdefault(name, label) != label:
            raise DataError(
                f"`{name}` is both `{labels[name]}` and `{label}` in `{folder / CSV}`",
                hint="keep one of the two lines",
            )
    return labels


def _check_classes(folder: Path, counts: Counter[str]) -> None:
    if not (folder / CSV).is_file():
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.name.startswith("."):
                counts.setdefault(entry.name, 0)
    small = {name: count for name, count in sorted(counts.items()) if count < 2}
    if small:
        named = ", ".join(f"`{name}` has {count}" for name, count in small.items())
        raise DataError(
            f"every class needs 2 images or more, in `{folder}` {named}",
            hint="add images, or remove the class",
        )
    if len(counts) < 2:
        raise DataError(
            f"`{folder}` has one class only, `{next(iter(counts))}`",
            hint="a classifier needs two classes or more",
        )


def _look(path: Path) -> tuple[int, bool]:
    """Decode an image as training will; give its longer side and whether it is grey."""
    load(path, ImageSpec(height=8, width=8, channels=1))
    with Image.open(path, formats=FORMATS) as image:
        return max(image.size), image.mode in GREY_MODES
