"""Repair a damaged labels.db: what can be read moves into a fresh file, the old one is kept."""

import time

from mlstack import files
from mlstack.errors import DataError
from mlstack.label import store
from mlstack.records.layout import Layout


def repair(layout: Layout) -> str:
    """Write what can be read into a fresh labels.db; give where the damaged one lies now.

    Raises:
        DataError: nothing can be read.
    """
    database = layout.labels_db
    events = store.salvage(database)
    if not events:
        raise DataError(
            f"nothing of `{database}` can be read",
            hint="move it away; what was exported is safe in labels.parquet",
        )
    kept = database.with_name(f"labels.damaged-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.db")
    fresh = database.with_name(".labels.fresh.db")
    fresh.unlink(missing_ok=True)
    store.restore(fresh, events)
    for suffix in ("-wal", "-shm"):
        part = database.with_name(database.name + suffix)
        if part.is_file():
            files.move(part, kept.with_name(kept.name + suffix))
    files.move(database, kept)
    files.move(fresh, database)
    return str(kept.relative_to(layout.root))
