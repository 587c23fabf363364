"""Parquet files, read and written by a library that is loaded when the first one is needed.

Loading it takes 10 ms and 4 MB. A server needs it when it packs its log, most commands never.
"""

from importlib import import_module
from pathlib import Path

import pyarrow as pa


def read(path: Path) -> pa.Table:
    """Read one file, without columns made from its folder's name."""
    return import_module("pyarrow.parquet").ParquetFile(path).read()


def write(table: pa.Table, path: Path) -> None:
    """Write one file; half of it stays when this is killed."""
    import_module("pyarrow.parquet").write_table(
        table, path, compression="zstd", compression_level=1
    )
