"""What there is to label: the files of the dataset, its classes, the labels it came with."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from mlstack import files
from mlstack.config import Project
from mlstack.errors import ConfigError, DataError
from mlstack.inputs import folders
from mlstack.inputs.images import SUFFIXES
from mlstack.inputs.tasks import reads_rows
from mlstack.label.quality import Scope
from mlstack.launch.dataset import refuse_absent
from mlstack.records import dataset

DIGITS = "1234567890"
TAKEN = frozenset("uz")  # undo


@dataclass(frozen=True)
class Items:
    """The dataset as a labeler sees it."""

    source: Path
    paths: list[str]  # relative to the folder, sorted
    classes: list[str]
    known: dict[str, str]  # path -> label that the dataset came with

    @property
    def scope(self) -> Scope:
        """What labels are judged against."""
        return Scope(self.paths, self.classes, self.known)


def find(project: Project) -> Items:
    """List the image files of the dataset, its classes and its labels.

    Raises:
        ConfigError: the classes are nowhere to be found, or the task or the queue cannot be had.
        DataError: the folder is missing or holds no image.
    """
    config = project.config
    if config.project.task != "image-classification":
        raise ConfigError(
            f"project.task: `{config.project.task}` cannot be labeled yet, only images can",
            hint=_elsewhere(config.project.task),
        )
    source = project.root / config.data.folder
    refuse_absent(project)
    paths = [
        path.relative_to(source).as_posix()
        for path in files.walk(source)
        if path.suffix.lower() in SUFFIXES
    ]
    if not paths:
        raise DataError(
            f"`{config.data.folder}` holds no image",
            hint=f"put files there that end in {', '.join(sorted(SUFFIXES))}",
        )
    _refuse_odd_names(source, paths)
    known = known_labels(source, paths, config.data.classes)
    classes = config.data.classes or sorted(set(known.values()))
    if not classes:
        raise ConfigError(
            "data.classes: nothing is labeled yet, so the classes must be named",
            hint="write `classes: [cat, dog]` under data in mlstack.yaml",
        )
    return Items(source, sorted(paths), classes, known)


def _refuse_odd_names(source: Path, paths: list[str]) -> None:
    """Refuse names whose bytes are no UTF-8: neither a page nor a labels file can hold them."""
    for path in paths:
        try:
            path.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"the name of `{source / path}` is no text in UTF-8",
                hint="rename it; `convmv` does that for many",
            ) from error


def _elsewhere(task: str) -> str:
    if reads_rows(task):
        return "a table carries its labels in its target column: write them there"
    return "label elsewhere and put the labels into labels.csv of the dataset"


def known_labels(source: Path, paths: list[str], classes: list[str] | None) -> dict[str, str]:
    """Read the labels that the dataset came with: labels.parquet, labels.csv, or the folders.

    A folder counts as a class only when `data.classes` names it: `images/` is no class.
    """
    if (source / dataset.LABELS).is_file():
        table = dataset.read_labels(source / dataset.LABELS)
        return dict(zip(table["path"].to_pylist(), table["label"].to_pylist(), strict=True))
    if (source / folders.CSV).is_file():
        return dict(folders.labeled_files(source))
    named = set(classes or ())
    return {p: p.split("/")[0] for p in paths if "/" in p and p.split("/")[0] in named}


def keys(classes: list[str]) -> list[list[str]]:
    """Choose the keys of each class.

    Classes of one character are their own key, so that `3` on the keyboard is the digit 3.
    Otherwise 1 to 9 and 0 in order, and the first letter where no other class has it; what is
    left without a key gets a free letter of its name.
    """
    lowered = [name.lower() for name in classes]
    if all(len(name) == 1 for name in classes) and len(set(lowered)) == len(classes):
        return [[name] if name not in TAKEN else [] for name in lowered]
    first = [name[:1] for name in lowered]
    used = set(TAKEN)
    chosen = [[digit] for digit in DIGITS[: len(classes)]]
    chosen += [[] for _ in classes[len(chosen) :]]
    for keys, letter in zip(chosen, first, strict=True):
        if letter.isalpha() and first.count(letter) == 1 and letter not in used:
            keys.append(letter)
            used.add(letter)
    for keys, name in zip(chosen, lowered, strict=True):
        free = next((letter for letter in name if letter.isalpha() and letter not in used), None)
        if not keys and free:
            keys.append(free)
            used.add(free)
    return chosen


def known_table(source: Path, known: dict[str, str]) -> pa.Table:
    """Give the dataset's own labels as a table, with every column it came with."""
    if (source / dataset.LABELS).is_file():
        return dataset.read_labels(source / dataset.LABELS)
    rows = [{"path": path, "label": label} for path, label in known.items()]
    return pa.Table.from_pylist(rows, schema=dataset.LABELS_SCHEMA)
