"""Images that nobody has labeled: the answers of a teacher are learned on them, too."""

from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc

from mlstack.config import Project
from mlstack.errors import ConfigError, DataError
from mlstack.inputs.images import SUFFIXES
from mlstack.inputs.tasks import reads_rows
from mlstack.launch import dataset, examples
from mlstack.records.data_folder import FolderHash


def found(project: Project, hashed: FolderHash, table: pa.Table) -> pa.Table | None:
    """Give train and val of the examples, and as `test` the images that no label names.

    One that has the content of an example is left out: it would give val or test away. Train and
    val stay, for what a data module learns from them is the same then.

    Args:
        project: the project.
        hashed: the files of its dataset.
        table: the examples of the run.

    Returns:
        None unless `train.distill.unlabeled` asks for it.

    Raises:
        ConfigError: the data is a table.
        DataError: there is no such image.
    """
    distill = project.config.train.distill
    if distill is None or not distill.unlabeled:
        return None
    if reads_rows(project.config.project.task):
        raise ConfigError(
            "train.distill.unlabeled: the rows of a table all have labels",
            hint="write `unlabeled: false`",
        )
    folder = dataset.source_folder(project)
    labeled = set(examples.labels_of(folder)["path"].to_pylist())
    known = set(table["md5"].to_pylist())
    pool: dict[str, str] = {}  # of equal images, the first by name
    for name, md5 in sorted(hashed.entries.items()):
        is_image = PurePosixPath(name).suffix.lower() in SUFFIXES
        if is_image and name not in labeled and md5 not in known:
            pool.setdefault(md5, str(folder / name))
    if not pool:
        raise DataError(
            f"train.distill.unlabeled: every image in `{project.config.data.folder}` has a label",
            hint="put images there that no label names, or write `unlabeled: false`",
        )
    return _beside(table, pool)


def _beside(table: pa.Table, pool: dict[str, str]) -> pa.Table:
    """Put the pool, path by MD5, behind train and val."""
    count = len(pool)
    more = pa.table(
        {
            "path": list(pool.values()),
            "label": [""] * count,
            "target": pa.array([0] * count, pa.int32()),
            "split": ["test"] * count,
            "md5": list(pool),
        }
    )
    kept = table.filter(pc.not_equal(table["split"], "test"))
    return pa.concat_tables([kept, more], promote_options="default")
