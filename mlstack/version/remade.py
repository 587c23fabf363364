"""What `.mlstack` keeps of inputs so that they are made once, and what of it nothing needs.

Decoded images are needed by the data as it lies now, and by runs that can go on; tables with their
features by every run that names them, and by the next one. All of it is made again where it is
missed, so it is deleted and not moved to the trash.
"""

from pathlib import Path

import pyarrow.parquet as pq

from mlstack.inputs.sweep import Swept, sweep
from mlstack.records.dataset import EXAMPLES
from mlstack.records.dataset_hash import hash_dataset, is_packed
from mlstack.records.layout import Layout
from mlstack.records.run import glance, run_ids


def clear(root: Path, source: str, *, delete: bool) -> Swept:
    """Count what is needed and what is not; with `delete`, free that.

    Args:
        root: the project.
        source: its dataset folder, relative to it.
        delete: whether to free what is not needed.

    Raises:
        DataError: the data is being written meanwhile, or a run's records cannot be read.
    """
    layout = Layout(root)
    images = sweep(layout.state, _contents(layout, source), delete=delete)
    tables = _tables(layout, delete=delete)
    return Swept(images.needed_bytes + tables.needed_bytes, images.spare_bytes + tables.spare_bytes)


def _contents(layout: Layout, source: str) -> set[str]:
    """Give the MD5 of each file that is here, or that a run reads which has not finished."""
    found: set[str] = set()
    if (layout.root / source).is_dir() or is_packed(layout.root / source):
        found.update(hash_dataset(layout.root, source).entries.values())
    for run in run_ids(layout.runs):
        if glance(layout.run(run)).state != "finished":
            found.update(_column(layout.run(run) / EXAMPLES, "md5"))
    return found


def _tables(layout: Layout, *, delete: bool) -> Swept:
    kept = sorted(layout.features.glob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    if not kept:
        return Swept(0, 0)
    named = {kept[-1].name}
    for run in run_ids(layout.runs):
        named.update(Path(path).name for path in _column(layout.run(run) / EXAMPLES, "path"))
    sizes = {path: path.stat().st_size for path in kept}
    spare = [path for path in kept if path.name not in named]
    for path in spare if delete else ():
        path.unlink()
    spare_bytes = sum(sizes[path] for path in spare)
    return Swept(sum(sizes.values()) - spare_bytes, spare_bytes)


def _column(examples: Path, name: str) -> set[str]:
    """Read the values of one column; none where there is no such table or column."""
    if not examples.is_file() or name not in pq.read_schema(examples).names:
        return set()
    return set(pq.read_table(examples, columns=[name])[name].to_pylist())
