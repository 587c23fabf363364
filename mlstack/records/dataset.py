"""A dataset version and the table of examples a run reads.

`data/NAME/labels.parquet` holds one row a labeled file: `path` (string, relative to the dataset
folder, forward slashes) and `label` (string). Further columns are kept and may make slices.
`examples.parquet` of a run holds `path` (absolute), `label`, `target` (int32, position of the
label among the classes) and `split` (`train`, `val` or `test`). Of a table, `path` is the same in
every row, and a further column `row` (int64) says which of its rows is meant. `unlabeled.parquet`
of a run with `train.distill.unlabeled` holds the same rows of train and val, and as `test` those
without a label: `label` is empty, and `target` is 0 and means nothing.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mlstack import files, packed
from mlstack.errors import DataError
from mlstack.records.dataset_version import DatasetVersion as DatasetVersion

LABELS = "labels.parquet"
EXAMPLES = "examples.parquet"
UNLABELED = "unlabeled.parquet"
LABELS_SCHEMA = pa.schema([("path", pa.string()), ("label", pa.string())])
EXAMPLES_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("label", pa.string()),
        ("target", pa.int32()),
        ("split", pa.string()),
    ]
)


def read_labels(path: Path) -> pa.Table:
    """Read a labels file: columns `path` and `label`, and any others.

    Raises:
        DataError: the file is missing, damaged or lacks a column.
    """
    return _read(path, LABELS_SCHEMA)


def write_labels(path: Path, table: pa.Table) -> None:
    """Write a labels file, sorted by path so that equal labels are equal bytes."""
    _write(path, table.sort_by("path"))


def read_examples(path: Path) -> pa.Table:
    """Read the examples of a run.

    Raises:
        DataError: the file is missing, damaged or lacks a column.
    """
    return _read(path, EXAMPLES_SCHEMA)


def write_examples(path: Path, table: pa.Table) -> None:
    """Write the examples of a run."""
    _write(path, table)


def _read(path: Path, schema: pa.Schema) -> pa.Table:
    try:
        content = path if path.is_file() else pa.BufferReader(packed.read(path))
        table = pq.ParquetFile(content).read()  # read_table would import pandas first
    except FileNotFoundError as error:
        raise DataError(f"there is no `{path}`") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"`{path}` cannot be read as Parquet: {error}") from error
    for column in schema:
        if column.name not in table.column_names:
            raise DataError(f"`{path}` has no column `{column.name}`")
    return table


def _write(path: Path, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    files.write_bytes(path, sink.getvalue().to_pybytes())
