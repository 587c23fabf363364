"""The division of the data into parts, kept from `mlstack run` for the runs that follow."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import pyarrow as pa

from mlstack import __version__, files
from mlstack.config import Project
from mlstack.errors import DataError
from mlstack.inputs.splits import PARTS
from mlstack.inputs.tasks import reads_rows
from mlstack.launch import dataset, examples, rows
from mlstack.records import base
from mlstack.records.data_folder import FolderHash
from mlstack.records.dataset import EXAMPLES, read_examples, write_examples
from mlstack.records.layout import Layout
from mlstack.records.prepared import SUMMARY, ClassCount, Prepared


def divided(project: Project, hashed: FolderHash) -> tuple[pa.Table, list[str]]:
    """Give the examples and classes: those that were prepared, if of this data and these settings.

    Raises:
        DataError: the labels are wrong.
    """
    folder = dataset.source_folder(project)
    wide = rows.joined(project.root, project.config.data, hashed.entries)
    kept = _kept(project, hashed)
    if kept is None:
        return examples.prepare(folder, project.config, hashed.entries, wide)
    table, classes = kept
    root = project.root.resolve()
    return _with_paths(table, [str(root / path) for path in table["path"].to_pylist()]), classes


def write(project: Project) -> Prepared:
    """Check and divide the data as every run does, and keep the result.

    Raises:
        DataError: the data is not snapshotted, or its labels are wrong.
    """
    hashed = dataset.hash_source(project)
    dataset.version_of(project, hashed, allow_dirty=False)
    source = dataset.source_folder(project)
    wide = rows.joined(project.root, project.config.data, hashed.entries)
    table, classes = examples.prepare(source, project.config, hashed.entries, wide)
    root = project.root.resolve()
    names = [Path(path).relative_to(root).as_posix() for path in table["path"].to_pylist()]
    folder = Layout(project.root).prepared
    write_examples(folder / EXAMPLES, _with_paths(table, names))
    parts = Counter(table["split"].to_pylist())
    prepared = Prepared(
        dataset=hashed.md5,
        settings_sha256=_settings(project),
        examples_md5=files.md5(folder / EXAMPLES),
        classes=classes,
        split={part: parts[part] for part in PARTS},
        files=hashed.count,
        size_bytes=hashed.size_bytes,
        copies=_copies(project, hashed, names),
        counts=_counts(table, classes),
    )
    base.write(folder / SUMMARY, prepared)
    return prepared


def _kept(project: Project, hashed: FolderHash) -> tuple[pa.Table, list[str]] | None:
    """Read what was prepared; None when it is of something else, or not whole."""
    folder = Layout(project.root).prepared
    try:
        prepared = base.read(folder / SUMMARY, Prepared)
        fits = (prepared.dataset, prepared.settings_sha256) == (hashed.md5, _settings(project))
        if not fits or files.md5(folder / EXAMPLES) != prepared.examples_md5:
            return None
        return read_examples(folder / EXAMPLES), prepared.classes
    except (DataError, OSError):  # never prepared, or damaged: it is made anew
        return None


def _settings(project: Project) -> str:
    config, data = project.config, project.config.data
    read = {
        "mlstack": __version__,
        "task": config.project.task,
        "seed": config.project.seed,
        "source": data.source,
        "features": data.features.model_dump(mode="json") if data.features else None,
        "label": data.label,
        "classes": data.classes,
        "split": data.split.model_dump(mode="json"),
        "checks": data.checks.model_dump(mode="json"),
        "synthetic": data.synthetic.model_dump(mode="json"),
    }
    return hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()


def _with_paths(table: pa.Table, paths: list[str]) -> pa.Table:
    place = table.column_names.index("path")
    return table.set_column(place, table.schema.field("path"), pa.array(paths, pa.string()))


def _copies(project: Project, hashed: FolderHash, names: list[str]) -> int:
    if reads_rows(project.config.project.task):
        _, contents = rows.read(dataset.source_folder(project), project.config.data)
    else:
        below = len(Path(project.config.data.folder).as_posix()) + 1
        contents = [hashed.entries[name[below:]] for name in names]
    return len(contents) - len(set(contents))


def _counts(table: pa.Table, classes: list[str]) -> list[ClassCount]:
    found = Counter(zip(table["label"].to_pylist(), table["split"].to_pylist(), strict=True))
    return [
        ClassCount(name=name, **{part: found[name, part] for part in PARTS}) for name in classes
    ]
