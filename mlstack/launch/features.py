"""The table of a run with its features: joined once for each state of the data, then kept."""

import hashlib
import json
from pathlib import Path

import pyarrow.parquet as pq

from mlstack import files
from mlstack.config.data_sections import Data
from mlstack.errors import DataError
from mlstack.inputs import tables
from mlstack.inputs.features import Features, FeatureSpec
from mlstack.records.layout import Layout


def join(root: Path, data: Data, md5s: dict[str, str]) -> Path:
    """Join the features to the table; what was joined for the same content is used again.

    Args:
        root: the project.
        data: its settings, with features.
        md5s: MD5 of each file of the dataset by its path.

    Returns:
        `.mlstack/features/HASH.parquet`: the rows in their order, without key and time.

    Raises:
        DataError: there is no table, a file is missing, or they cannot be joined.
        ConfigError: a column is there twice.
    """
    assert data.features is not None
    folder, settings = root.resolve() / data.folder, data.features.model_dump()
    spec = FeatureSpec.from_settings(settings)
    source = tables.find(folder)
    if source is None:
        raise DataError(
            f"there is no {' or '.join(tables.NAMES)} in `{folder.name}`",
            hint="put the table there, one example a row",
        )
    content = {name: md5s.get(name) for name in (source.name, *spec.files)}
    text = json.dumps([content, settings], sort_keys=True).encode()
    target = Layout(root.resolve()).features / f"{hashlib.sha256(text).hexdigest()[:32]}.parquet"
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_suffix(".tmp")
        with Features(spec, folder) as features:
            pq.write_table(features.attach(tables.read(source)), beside)
        files.sync_file(beside)
        files.move(beside, target)
    return target
