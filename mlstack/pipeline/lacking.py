"""Whether there are labels enough to train on, seen without a look at any picture."""

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mlstack.config import Project
from mlstack.errors import DataError
from mlstack.inputs import folders
from mlstack.inputs.tasks import reads_rows
from mlstack.plurals import counted
from mlstack.records import dataset
from mlstack.records.dataset_hash import is_packed


def label(project: Project) -> str:
    """Name a class that has fewer labels than training needs; nothing where all have them.

    Each needs one for every part that has a share. Of rows, of packed data and of labels that
    cannot be read nothing is said here.
    """
    source, data = project.root / project.config.data.folder, project.config.data
    if is_packed(source) or reads_rows(project.config.project.task):
        return ""
    try:
        counts = Counter(_labels(source))
    except (DataError, pa.ArrowInvalid, OSError, KeyError):
        return ""
    shares = (data.split.train, data.split.val, data.split.test)
    fewest = max(data.checks.min_per_class, sum(share > 0 for share in shares))
    for name in data.classes or sorted(counts):
        if counts[name] < fewest:
            have = counted(counts[name], "label")
            return f"class `{name}` has {have}, and training needs {fewest} of it"
    return "" if len(counts) > 1 else "training needs two classes or more"


def _labels(source: Path) -> list[str]:
    if not (source / dataset.LABELS).is_file():
        return [name for _, name in folders.labeled_files(source)]
    column = pq.read_table(source / dataset.LABELS, columns=["label"])["label"]
    return [str(name) for name in column.to_pylist() if name is not None]
