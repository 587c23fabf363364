"""Runs of a project whose folder was moved or copied: their paths are mended before use."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from msgspec import structs

from mlstack.records import base
from mlstack.records.dataset import EXAMPLES, UNLABELED, read_examples, write_examples
from mlstack.records.layout import Layout
from mlstack.records.run import SPEC, RunSpec


def spec_here(root: Path, run_id: str) -> RunSpec:
    """Read a run's spec; when the project has another place by now, so have its files.

    The examples are written first: one that is killed between the two files is repeated. Paths
    outside the project stay as they are.

    Raises:
        DataError: a file of the run is missing or damaged.
    """
    folder = Layout(root).run(run_id)
    spec = base.read(folder / SPEC, RunSpec)
    if spec.root == str(root):
        return spec
    for name in (EXAMPLES, UNLABELED):
        if name == EXAMPLES or (folder / name).is_file():
            _mend(folder / name, f"{spec.root}/", f"{root}/")
    here = structs.replace(spec, root=str(root))
    base.write(folder / SPEC, here)
    return here


def _mend(path: Path, before: str, after: str) -> None:
    """Have paths below one folder lie below another."""
    table = read_examples(path)
    paths = table["path"]
    moved = pc.binary_join_element_wise(
        after, pc.utf8_slice_codeunits(paths, start=len(before)), ""
    )
    mended = pc.if_else(pc.starts_with(paths, before), moved, paths).cast(pa.string())
    column = table.column_names.index("path")
    write_examples(path, table.set_column(column, "path", mended))
