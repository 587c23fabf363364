"""The user's own table, or own texts: looked at as training will, then copied."""

import shutil
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from ruamel.yaml import YAML

from mlstack import files, shell
from mlstack.config import Config
from mlstack.errors import ConfigError, DataError
from mlstack.init.catalog import Template
from mlstack.init.dataset import Columns, Copied, Dataset, write_card
from mlstack.init.naming import plain
from mlstack.inputs import columns, folders, tables
from mlstack.launch import examples

SUFFIXES = (".csv", ".parquet")
TEXT_SUFFIXES = frozenset({".txt"})
LABEL, TEXT = "label", "text"
USUAL_LABELS = (LABEL, "class", "target")
BYTES_A_TOKEN = 2  # of a vocabulary as small as the template's
LENGTHS = (32, 64, 96, 128, 192, 256, 384, 512)  # tokens read of a text; half a page at most


@dataclass(frozen=True)
class OwnTable:
    """What `--data` and `--label` name."""

    file: Path | None  # the table; None where the texts are a file each
    folder: Path
    label: str  # what `--label` says; empty where it is left out

    @property
    def given(self) -> Path:
        """Name what the user gave, in what is said about it."""
        return self.file or self.folder

    @property
    def name(self) -> str:
        """Name the dataset."""
        return plain(self.file.stem if self.file else self.folder.resolve().name)


def find(data: Path, label: str, task: str) -> OwnTable:
    """Find the table that `--data` names, or the only one in that folder.

    Raises:
        DataError: there is none, or more than one.
    """
    if data.is_file():
        return OwnTable(_table_file(data), data.parent, label)
    if task == "text-classification" and any(
        path.suffix.lower() in TEXT_SUFFIXES for path in files.walk(data)
    ):
        return OwnTable(None, data, label)
    found = sorted(path for path in data.iterdir() if path.suffix.lower() in SUFFIXES)
    if len(found) == 1:
        return OwnTable(found[0], data, label)
    texts_too = " or a folder of .txt files per class" if task == "text-classification" else ""
    raise DataError(
        f"`{data}` holds {len(found) or 'no'} table{'s' if found else ''} (.csv, .parquet)",
        hint=f"name the file, as --data {shell.path(found[0])}"
        if found
        else f"name a table{texts_too}",
    )


def copy(own: OwnTable, template: Template, folder: Path) -> Generator[Copied, None, Dataset]:
    """Copy the table below `folder`/data, and look how a model reads it.

    Raises:
        ConfigError: which column holds the class is not clear.
        DataError: the table or its labels are not what they should be.
    """
    source = folder / "data" / own.name
    source.mkdir(parents=True)
    file = source / "table.parquet"
    if own.file is None:
        table = _texts_below(own.folder)
        pq.write_table(table, file)
    else:
        file = source / f"table{own.file.suffix.lower()}"
        table = tables.read(own.file, file.name)
        shutil.copyfile(own.file, file)
    label = _label(own, table)
    yield Copied(text="checking", done=0, total=table.num_rows)
    prepared = _divided(own, source, _config(template, label))
    train = tables.chosen(prepared.filter(pc.equal(prepared["split"], "train")))
    found = _of_text(train, label) if _reads_text(template) else _of_rows(table, train, label)
    dataset = Dataset(
        name=own.name,
        labels=prepared["label"].to_pylist(),
        images=table.num_rows,
        size_bytes=file.stat().st_size,
        image_size=0,
        channels=0,
        own=True,
        unit="rows",
        columns=found,
    )
    about = [("source", "your own table; say here who made it"), ("licence", "say it here")]
    write_card(folder, dataset, about)
    return dataset


def _table_file(path: Path) -> Path:
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"`{path}` is neither .csv nor .parquet", hint="save it as CSV in UTF-8")
    return path


def _reads_text(template: Template) -> bool:
    return template.task == "text-classification"


def _texts_below(folder: Path) -> pa.Table:
    """Read one text a file, labeled by its folder or by labels.csv."""
    found = folders.labeled_files(folder, TEXT_SUFFIXES, "texts")
    rows = {"file": [name for name, _ in found], LABEL: [label for _, label in found]}
    return pa.table({TEXT: [_text_of(folder / name) for name in rows["file"]], **rows})


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"`{path}` is not UTF-8 text", hint="save it in UTF-8") from error


def _label(own: OwnTable, table: pa.Table) -> str:
    names = table.column_names
    if len(names) == 1:
        raise DataError(
            f"`{own.given}` has one column only, {_shown(names)}",
            hint="a table needs a column of classes, and others that tell them apart",
        )
    if own.label:
        if own.label not in names:
            raise ConfigError(
                f"--label: `{own.given}` has no column `{own.label}`",
                hint=f"it has {_shown(names)}",
            )
        return own.label
    usual = [name for name in USUAL_LABELS if name in names]
    if len(usual) != 1:
        raise ConfigError(
            f"which column of `{own.given}` holds the class?",
            hint=f"say --label COLUMN; it has {_shown(names)}",
        )
    return usual[0]


def _shown(names: list[str]) -> str:
    return ", ".join(map(tables.quoted, names[:12])) + (", ..." if len(names) > 12 else "")


def _config(template: Template, label: str) -> Config:
    """Give the template's settings for that label: they divide the rows as `train` will."""
    given = YAML(typ="safe", pure=True).load((template.folder / "mlstack.yaml").read_text())
    given["data"]["label"] = label
    return Config.model_validate(given)


def _divided(own: OwnTable, source: Path, config: Config) -> pa.Table:
    """Give the rows and their parts; what is wrong is said of the user's own file."""
    try:
        return examples.prepare(source, config, {})[0]
    except DataError as error:
        problem = error.problem
        for name in tables.NAMES:
            problem = problem.replace(f"`{name}`", f"`{own.given}`")
        raise DataError(
            problem, hint=error.hint, where=str(own.given), mistakes=error.mistakes
        ) from error


def _of_rows(table: pa.Table, train: pa.Table, label: str) -> Columns:
    names = [name for name in table.column_names if name != label]
    ignored = tuple(
        name
        for name in names
        if name in tables.TAKEN or _counts_up(table[name]) or _says_nothing(train[name])
    )
    if len(ignored) == len(names):
        raise DataError(
            "no column beside the label says anything: all are empty, running numbers or texts of "
            f"more than {tables.MOST_VALUES} values",
            hint="for one text a row, say --template text-classification",
        )
    spec = columns.learn(train, [name for name in names if name not in ignored])
    columns.encode(spec, table)  # names what cannot be learned from in any part
    return Columns(label=label, ignored=ignored, features=spec.width)


def _counts_up(column: pa.ChunkedArray) -> bool:
    """Tell whether a column is the number of the row."""
    if not pa.types.is_integer(column.type) or column.null_count or len(column) < 2:
        return False
    return bool((np.diff(column.to_numpy()) == 1).all())


def _says_nothing(column: pa.ChunkedArray) -> bool:
    """Tell whether nothing can be learned of a column: it is empty, or holds names or free text."""
    if column.null_count == len(column):
        return True
    is_text = pa.types.is_string(column.type)
    return bool(is_text and pc.count_distinct(column).as_py() > tables.MOST_VALUES)


def _of_text(train: pa.Table, label: str) -> Columns:
    """Take the column `text`, or the one with the longest texts."""
    lengths = {
        name: pc.fill_null(pc.binary_length(train[name]), 0).to_numpy()
        for name in train.column_names
        if name != label and pa.types.is_string(train[name].type)
    }
    if not lengths:
        raise DataError(
            f"no column beside `{label}` holds texts",
            hint="for a table of numbers, say --template tabular",
        )
    text = TEXT if TEXT in lengths else max(lengths, key=lambda name: float(lengths[name].mean()))
    tokens = float(np.quantile(lengths[text], 0.95)) / BYTES_A_TOKEN
    length = next((length for length in LENGTHS if tokens <= length), LENGTHS[-1])
    return Columns(label=label, text=text, length=length)
