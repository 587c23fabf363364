"""Parquet files, read and written by a library that is loaded when the first one is needed.

Loading it takes 10 ms and 4 MB. A server needs it when it packs its log, most commands never.
"""

from importlib import import_module
from pathlib import Path

import pyarrow as pa

WIDE_BYTES = 4 << 10  # a value, on average


def read(path: Path) -> pa.Table:
    """Read one file, without columns made from its folder's name."""
    return import_module("pyarrow.parquet").ParquetFile(path).read()


def write(table: pa.Table, path: Path) -> None:
    """Write one file; half of it stays when this is killed.

    Columns of tensors and files are packed by Snappy, which is quick where nothing can be packed.
    """
    wide = [name for name in table.column_names if _is_wide(table.column(name))]
    plain = [_place(field) for field in table.schema if field.name not in wide]
    import_module("pyarrow.parquet").write_table(
        table,
        path,
        compression=dict.fromkeys(plain, "zstd") | dict.fromkeys(wide, "snappy"),
        compression_level=dict.fromkeys(plain, 1),
        use_dictionary=plain,
        write_statistics=plain,
    )


def _place(field: pa.Field) -> str:
    return f"{field.name}.list.element" if pa.types.is_list(field.type) else str(field.name)


def _is_wide(column: pa.ChunkedArray) -> bool:
    return bool(pa.types.is_binary(column.type) and column.nbytes > WIDE_BYTES * len(column))
