"""The labels file that `train` reads: what came with the dataset and what people said, merged."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from mlstack import files
from mlstack.config import Project
from mlstack.errors import ConfigError, DataError
from mlstack.label import formats, items, quality
from mlstack.label.items import Items
from mlstack.label.names import Format
from mlstack.label.opinions import Ledger
from mlstack.label.results import LabelsExported
from mlstack.records import dataset


@dataclass(frozen=True)
class Target:
    """What is written, and where if not at its usual place."""

    kind: Format
    out: Path | None = None
    drop_missing: bool = False  # labels of files that are gone


def export(project: Project, found: Items, kept: Ledger, target: Target) -> LabelsExported:
    """Write the labels that count.

    Raises:
        DataError: there is no label.
        ConfigError: the file to write is a folder.
    """
    verdicts = quality.verdicts(kept, found.scope)
    there, classes = set(found.paths), set(found.classes)
    # Rows that came with the dataset are not ours to drop unasked; `label check` judges them.
    left_out = {
        path: name
        for path, name in verdicts.items()
        if (target.drop_missing and path not in there)
        or (found.known.get(path) != name and (path not in there or name not in classes))
    }
    labels = {path: name for path, name in verdicts.items() if path not in left_out}
    if not labels:
        raise DataError("there is no label to export", hint="type `mlstack label` and give some")
    file = _write(project, found, labels, target)
    return LabelsExported(
        file=_shown(file, project.root),
        format=target.kind.value,
        rows=len(labels),
        new=sum(1 for path in labels if path not in found.known),
        changed=sum(1 for p, name in labels.items() if found.known.get(p, name) != name),
        withdrawn=sum(1 for path in found.known if path not in labels),
        classes=quality.per_class(labels.values(), found.classes),
        tied=list(quality.tied(kept)),
        left_out=[f"{path} ({name})" for path, name in left_out.items()],
        gone=sum(path not in there for path in labels),
    )


def _write(project: Project, found: Items, labels: dict[str, str], target: Target) -> Path:
    kind, out = target.kind, target.out
    if out is not None and out.is_dir():
        raise ConfigError(f"--out: `{out}` is a folder", hint="name a file in it")
    if kind is not Format.PARQUET:
        file = out or project.root / formats.FILES[kind]
        files.write_bytes(file, formats.write(kind, labels))
        return file
    file = out or found.source / dataset.LABELS
    before = items.known_table(found.source, found.known)
    after = _merge(before, labels)
    unchanged = out is None and file.is_file() and after.equals(before.sort_by("path"))
    if not unchanged:
        dataset.write_labels(file, after)
    return file


def _merge(before: pa.Table, labels: dict[str, str]) -> pa.Table:
    """Set the labels of a table; its other columns stay, and are empty in new rows."""
    paths = before["path"].to_pylist()
    stay = before.filter(pa.array([path in labels for path in paths], pa.bool_()))
    kept = stay["path"].to_pylist()
    column = before.column_names.index("label")
    field = before.schema.field("label")
    stay = stay.set_column(column, field, pa.array([labels[p] for p in kept], field.type))
    known = set(kept)
    rows = [{"path": p, "label": name} for p, name in labels.items() if p not in known]
    new = pa.Table.from_pylist(rows, schema=dataset.LABELS_SCHEMA)
    return pa.concat_tables([stay, new], promote_options="permissive").sort_by("path")


def _shown(file: Path, root: Path) -> str:
    return str(file.relative_to(root)) if file.is_relative_to(root) else str(file)
