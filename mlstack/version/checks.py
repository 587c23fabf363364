"""The steps of `version check`: every finding by its name, held against what was learned."""

import math
from collections import Counter, defaultdict
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from msgspec.structs import replace

from mlstack.config import Config, Project
from mlstack.errors import DataError, Mistake
from mlstack.inputs import columns, splits, tables
from mlstack.launch import dataset, examples, git, rows
from mlstack.plurals import counted
from mlstack.printable import printable
from mlstack.records.base import Record, encode, read, write
from mlstack.records.schema import DataSchema, schema_path
from mlstack.version import content, labelled, leaks, learned, pictures
from mlstack.version.api import hold
from mlstack.version.content import Content
from mlstack.version.history import Dataset, label_column
from mlstack.version.pictures import Album
from mlstack.version.result import CheckedData, Finding, Working

IMAGES = ("image-classification", "object-detection")
CHANCE = 1e-6  # what is less likely than this is no chance
PARTS = {name: number for number, name in enumerate(splits.PARTS)}


@dataclass(frozen=True)
class _Seen:
    """What the data is like, and what was found in looking at it."""

    schema: DataSchema
    labeled: int
    unlabeled: int
    findings: list[Finding]
    classes: dict[str, int]


_Steps = Generator[Record, None, _Seen]


def check(project: Project, *, learn: bool = False) -> Iterator[Record]:
    """Look at every file, label, column and row; with `learn`, allow from now on what is there.

    Raises:
        DataError: something is wrong; `mistakes` names all of it. Nothing is learned then.
    """
    dataset.refuse_absent(project)
    data = Dataset(project.root, project.config.data.folder, label_column(project))
    state = content.of_folder(data)
    steps = _files if data.label is None else _rows
    seen = yield from steps(data, state, project.config)
    place = schema_path(data.folder)
    before = read(place, DataSchema) if place.is_file() else None
    differing = list(learned.differences(before, seen.schema)) if before is not None else []
    found = seen.findings if learn else seen.findings + differing
    _refuse(data, found)
    if learn:
        _keep(data, learned.widened(seen.schema), before)
    yield CheckedData(
        dataset=data.name,
        files=len(state.entries),
        labeled=seen.labeled,
        unlabeled=seen.unlabeled,
        classes=seen.classes,
        notes=found,
        schema=f"{data.source}.schema.json" if learn or before is not None else None,
        learned=learn,
        accepted=differing if learn else [],
    )


# Files with labels


def _files(data: Dataset, state: Content, config: Config) -> _Steps:
    labels = state.labels()
    paths = [path for path in sorted(state.entries) if labelled.is_image(path)]
    is_seen = config.project.task in IMAGES
    album = yield from pictures.scan(data.folder, paths if is_seen else [])
    found = [
        *labelled.findings(data.source, state, labels),
        *_damaged(data, album),
        *labelled.damaged_tables(data.source, state),
        *labelled.class_findings([*labels.values()], config),
    ]
    if not found:
        yield Working(text=f"{data.source}: looking for leaks")
        found += _across(data, state, labels, album, config)
    unlabeled = len(set(paths) - labels.keys())
    if unlabeled:
        there = len((labels.keys() & state.entries.keys()) | set(paths))
        said = f"{unlabeled} of {counted(there, 'file')} have no label"
        hint = labelled.how_to_label(data.source, paths, labels) if is_seen else ""
        found.append(_note("unlabeled-files", said, hint))
    classes = dict(sorted(Counter(labels.values()).items()))
    schema = _schema(data, state, classes)
    schema = replace(schema, images=learned.images_of(album))
    return _Seen(schema, len(labels), unlabeled, found, classes)


def _damaged(data: Dataset, album: Album) -> Iterator[Finding]:
    for path, problem in album.damaged.items():
        yield Finding(
            name="corrupt-file",
            problem=f"`{path}`: {problem}",
            hint="replace or remove the file",
            where=f"{data.source}/{path}",
        )


def _across(
    data: Dataset, state: Content, labels: dict[str, str], album: Album, config: Config
) -> Iterator[Finding]:
    """Name what stands on both sides of the split, or gives the class away."""
    try:
        table, _ = examples.prepare(data.folder, config, state.entries)
    except DataError as error:
        for one in error.mistakes:
            yield _note("not-trainable", f"`train` will refuse: {one.problem}", one.hint)
        return
    places = [Path(path).relative_to(data.folder).as_posix() for path in table["path"].to_pylist()]
    parts = dict(zip(places, table["split"].to_pylist(), strict=True))
    yield from _copies(labelled.copies(state, labels), parts, config)
    numbers = np.array([PARTS.get(parts.get(path, ""), -1) for path in album.paths], np.int64)
    for first, second in pictures.near_copies(album, numbers):
        here, there = album.paths[first], album.paths[second]
        if state.entries[here] != state.entries[there]:
            yield _note(
                "near-copies-across-parts",
                f"`{here}` ({parts[here]}) and `{there}` ({parts[there]}) look alike",
                "remove one, or keep them together with `data.split.group_by`",
            )
    yield from _looks_tell(album, labels)


def _copies(groups: list[list[str]], parts: dict[str, str], config: Config) -> Iterator[Finding]:
    count = sum(len(paths) - 1 for paths in groups)
    if not count:
        return
    if config.data.checks.no_duplicates_across_splits:
        said = counted(count, "file is a copy of another", "files are copies of others")
        said += "; training keeps equal files in one part"
        yield _note("copies", said)
        return
    for paths in groups:
        if len({parts[path] for path in paths}) > 1:
            named = ", ".join(f"`{path}` ({parts[path]})" for path in paths[:4])
            yield _note(
                "copies-across-parts",
                f"equal files stand in different parts: {named}",
                "set `data.checks.no_duplicates_across_splits: true`",
            )


def _looks_tell(album: Album, labels: dict[str, str]) -> Iterator[Finding]:
    """Name sizes and modes that only one class has, more often than chance explains."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for path, look in zip(album.paths, album.looks, strict=True):
        if path in labels:
            counts[f"{look.width} x {look.height} {look.mode}"][labels[path]] += 1
    total = sum(counts.values(), Counter[str]())
    for size, classes in sorted(counts.items()):
        (name, count), *others = classes.most_common(2)
        by_chance = (total[name] / total.total()) ** count * len(counts)
        if not others and by_chance < CHANCE:
            yield _note(
                "size-tells-class",
                f"all {count} images of {size} are `{name}`; a model can learn the size",
                "bring all images to one size and mode",
            )


# Rows of a table


def _rows(data: Dataset, state: Content, config: Config) -> _Steps:
    yield Working(text=f"{data.source}: reading the table")
    table, labels = _table(data, state, config)
    classes = dict(sorted(Counter(label for label in labels if label).items()))
    found = [
        *_empty_labels(labels),
        *_gaps(table, config),
        *_beyond(table, config),
        *labelled.class_findings(labels, config),
    ]
    if not found:
        yield Working(text=f"{data.source}: looking for leaks")
        found += _leaks(data, state, table, config)
    schema = _schema(data, state, classes)
    described = learned.columns_of(table.drop_columns([config.data.label]))
    return _Seen(replace(schema, columns=described), len(labels), 0, found, classes)


def _table(data: Dataset, state: Content, config: Config) -> tuple[pa.Table, list[str]]:
    path = tables.find(data.folder)
    if path is None:
        examples.prepare(data.folder, config, state.entries)  # says what is lacking
    assert path is not None, "without a table there are no examples"
    try:
        table = tables.read(path)
    except DataError as error:
        one = Finding(name="unreadable-table", problem=error.problem, hint=error.hint)
        raise _refusal(data, [one]) from error
    name = config.data.label
    if name not in table.column_names and schema_path(data.folder).is_file():
        problem = f"column `{name}`, which holds the class, is gone"
        _refuse(data, [Finding(name="vanished-column", problem=problem, hint="bring it back")])
    if name not in table.column_names or pa.types.is_floating(table[name].type):
        examples.prepare(data.folder, config, state.entries)  # says why it is no label
    return table, [tables.class_of(value) for value in table[name].to_pylist()]


def _empty_labels(labels: list[str]) -> Iterator[Finding]:
    for number, label in enumerate(labels, 1):
        if not label:
            yield Finding(
                name="empty-label",
                problem=f"row {number} has no label",
                hint="write one, or remove the row; the first row is 1",
            )


def _gaps(table: pa.Table, config: Config) -> Iterator[Finding]:
    allowed, ignored = config.data.checks.max_missing, _ignored(config)
    shares = tables.missing_shares(table)
    shares = {name: share for name, share in shares.items() if name not in ignored}
    most = math.ceil(max(shares.values(), default=0.0) * 100) / 100  # allows every column
    for name, share in shares.items():
        if share > allowed:
            is_text = name == config.data.args.get("text")
            left = "remove these rows" if is_text else tables.leave_out(name)
            yield Finding(
                name="missing-values",
                problem=f"column `{name}`: {round(share * table.num_rows)} of {table.num_rows} "
                f"values ({share:.1%}) are missing; `data.checks.max_missing` allows {allowed:.1%}",
                hint=f"fill them in, allow it by `data.checks.max_missing: {most:g}`, or {left}",
            )


def _beyond(table: pa.Table, config: Config) -> Iterator[Finding]:
    """Name the columns with numbers that a row of a table may not hold; texts are read alone."""
    if config.project.task != "tabular":
        return
    ignored = _ignored(config)
    for name in table.column_names:
        places = [] if name in ignored else columns.beyond(table[name])
        if places:
            first = tables.shown(table[name][places[0]].as_py())
            more = f", and {len(places) - 1} more" if len(places) > 1 else ""
            yield Finding(
                name="number-too-large",
                problem=f"column `{name}`: row {places[0] + 1} holds {first}{more}; that is too "
                "large or not finite",
                hint=f"mend it, leave it empty, or {tables.leave_out(name)}; the first row is 1",
            )


def _ignored(config: Config) -> set[str | None]:
    """Name the columns that nothing is learned from."""
    ignored = config.data.args.get("ignore")
    left_out = {config.data.label, config.data.split.group_by}
    return left_out | (set(ignored) if isinstance(ignored, list) else set())


def _leaks(data: Dataset, state: Content, table: pa.Table, config: Config) -> Iterator[Finding]:
    try:
        wide = rows.joined(data.root, config.data, state.entries)
        divided, _ = examples.prepare(data.folder, config, state.entries, wide)
    except DataError as error:
        for one in error.mistakes:
            yield Finding(name="not-trainable", problem=one.problem, hint=one.hint)
        return
    ignored = _ignored(config)
    kept = [name for name in table.column_names if name not in ignored]
    parts = np.full(table.num_rows, -1, np.int64)
    parts[divided["row"].to_numpy()] = [PARTS[part] for part in divided["split"].to_pylist()]
    labels = leaks.codes(table[config.data.label])
    is_tied = config.data.checks.no_duplicates_across_splits
    yield from leaks.findings(leaks.Labeled(table.select(kept), labels, parts, is_tied))
    text = config.data.args.get("text")
    read = [text] if config.project.task == "text-classification" and text in kept else kept
    classes = [tables.class_of(value) for value in table[config.data.label].to_pylist()]
    yield from leaks.contradictions(table.select(read), classes)


# What is learned, and what is refused


def _schema(data: Dataset, state: Content, classes: dict[str, int]) -> DataSchema:
    total = sum(classes.values())
    shares = {name: count / total for name, count in classes.items()}
    return DataSchema(dataset=data.name, md5=state.md5, examples=total, classes=shares)


def _keep(data: Dataset, schema: DataSchema, before: DataSchema | None) -> None:
    """Write the schema and commit it, so that it is part of the project's history."""
    place = schema_path(data.folder)
    with hold(data.root):
        if before is None or encode(before) != encode(schema):
            write(place, schema)
        if git.is_repository(data.root) and git.git(
            data.root, "status", "--porcelain", "--", str(place)
        ):
            git.commit(data.root, [place], f"learn what {data.source} is like")


def _refuse(data: Dataset, found: list[Finding]) -> None:
    if not all(one.suspicion for one in found):
        raise _refusal(data, found)


def _refusal(data: Dataset, found: list[Finding]) -> DataError:
    count = sum(not one.suspicion for one in found)
    return DataError(
        f"{data.source}: {count} finding{'s' if count > 1 else ''}",
        hint="mend them, then type `mlstack version check` again",
        mistakes=tuple(
            Mistake(
                printable(one.problem),
                one.hint,
                printable(one.where),
                key=one.name,
                is_note=one.suspicion,
            )
            for one in sorted(found, key=lambda one: one.suspicion)
        ),
    )


def _note(name: str, problem: str, hint: str = "") -> Finding:
    return Finding(name=name, problem=problem, hint=hint, suspicion=True)
