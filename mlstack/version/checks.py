"""What is wrong with the data in the working tree, every finding by its name."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from mlstack.config import Config, Project
from mlstack.errors import DataError, Mistake
from mlstack.inputs import folders, images, tables
from mlstack.launch import examples, rows
from mlstack.records import dataset
from mlstack.version import content, source
from mlstack.version.content import Content
from mlstack.version.history import Dataset, label_column
from mlstack.version.result import CheckedData

NAMED = 20  # findings of one sort that are named; the rest is counted
PROBE = images.ImageSpec(8, 8, 3)


def check(project: Project) -> CheckedData:
    """Look at every file and label.

    Raises:
        DataError: something is wrong; `mistakes` names all of it.
    """
    source.refuse_absent(project)
    data = Dataset(project.root, project.config.data.folder, label_column(project))
    state = content.of_folder(data)
    if data.label is not None:
        return _check_table(data, state, project.config)
    labels = state.labels()
    mistakes = [
        *_shortened(_odd_rows(state)),
        *_shortened(_missing(data, state, labels)),
        *_shortened(_corrupt(data, state, project.config)),
        *_shortened(_outside(labels, project.config)),
        *_too_few(labels, project.config),
        *_shortened(_contradictions(state, labels)),
    ]
    if mistakes:
        raise DataError(
            f"{data.source}: {len(mistakes)} findings",
            hint="mend them, then type `mlstack version check` again",
            mistakes=tuple(mistakes),
        )
    pictures = {path for path in state.entries if _is_image(path)} | labels.keys()
    unlabeled = len(pictures - labels.keys())
    return CheckedData(
        dataset=data.name,
        files=len(state.entries),
        labeled=len(labels),
        unlabeled=unlabeled,
        classes=state.classes(),
        notes=_notes(state, labels, unlabeled / len(pictures), project.config),
    )


def _notes(state: Content, labels: dict[str, str], unlabeled: float, config: Config) -> list[str]:
    notes = [f"{unlabeled:.1%} of the files have no label"] if unlabeled else []
    if twins := sum(len(paths) - 1 for paths in _duplicates(state, labels)):
        kept = config.data.checks.no_duplicates_across_splits
        what = (
            "training keeps equal files in one part"
            if kept
            else (
                "they may stand in train and in test, because "
                "`data.checks.no_duplicates_across_splits` is false"
            )
        )
        notes.append(f"{twins} files are copies of others; {what}")
    return notes


def _check_table(data: Dataset, state: Content, config: Config) -> CheckedData:
    """Check a table as `train` will, and that few of its values are missing."""
    wide = rows.joined(data.root, config.data, state.entries)
    table, _ = examples.prepare(data.folder, config, state.entries, wide)
    path = tables.find(data.folder)
    assert path is not None  # prepare has read it
    allowed = config.data.checks.max_missing
    missing = [
        Mistake(
            f"column `{name}`: {share:.1%} of the values are missing; "
            f"`data.checks.max_missing` allows {allowed:.1%}",
            "fill them in, or allow it",
        )
        for name, share in tables.missing_shares(tables.read(path)).items()
        if share > allowed
    ]
    if missing:
        raise DataError(
            f"{data.source}: {len(missing)} findings",
            hint="mend them, then type `mlstack version check` again",
            mistakes=tuple(_shortened(iter(missing))),
        )
    return CheckedData(
        dataset=data.name,
        files=len(state.entries),
        labeled=table.num_rows,
        unlabeled=0,
        classes=state.classes(),
        notes=[],
    )


def _missing(data: Dataset, state: Content, labels: dict[str, str]) -> Iterator[Mistake]:
    if not labels:
        yield Mistake("no file has a label", "type `mlstack label`", data.source)
    for path in sorted(labels.keys() - state.entries.keys()):
        source = dataset.LABELS if dataset.LABELS in state.entries else folders.CSV
        yield Mistake(
            f"`{path}` is labeled, but there is no such file",
            f"put it back, or remove its row from {source}",
            f"{data.source}/{path}",
        )


def _corrupt(data: Dataset, state: Content, config: Config) -> Iterator[Mistake]:
    if config.project.task not in ("image-classification", "object-detection"):
        return
    for path in sorted(state.entries):
        if not _is_image(path):
            continue
        try:
            images.decode((data.folder / path).read_bytes(), PROBE)
        except DataError as error:
            where = f"{data.source}/{path}"
            yield Mistake(f"`{path}`: {error.problem}", "replace or remove the file", where)


def _outside(labels: dict[str, str], config: Config) -> Iterator[Mistake]:
    allowed = config.data.classes
    if allowed is None:
        return
    for name, count in sorted(Counter(labels.values()).items()):
        if name not in allowed:
            example = min(path for path, label in labels.items() if label == name)
            yield Mistake(
                f"{count} files have the label `{name}`, which is not in `data.classes`",
                "add it to mlstack.yaml or relabel them",
                example,
            )


def _too_few(labels: dict[str, str], config: Config) -> Iterator[Mistake]:
    counts = Counter(labels.values())
    least = config.data.checks.min_per_class
    for name in sorted({*counts, *(config.data.classes or ())}):
        if counts[name] < least:
            yield Mistake(
                f"class `{name}` has {counts[name]} examples; "
                f"`data.checks.min_per_class` asks for {least}",
                "label more of them",
            )


def _contradictions(state: Content, labels: dict[str, str]) -> Iterator[Mistake]:
    for paths in _duplicates(state, labels):
        if len({labels[path] for path in paths}) > 1:
            named = ", ".join(f"`{path}` is {labels[path]}" for path in paths[:4])
            yield Mistake(f"equal files with different labels: {named}", "keep one", paths[0])


def _odd_rows(state: Content) -> Iterator[Mistake]:
    """Name rows of labels.parquet that `labels` cannot tell apart: repeated or without a label."""
    if dataset.LABELS not in state.entries:
        return
    table = dataset.read_labels(state.locate(dataset.LABELS))
    paths = table["path"].to_pylist()
    for path, times in Counter(paths).items():
        if times > 1:
            yield Mistake(f"`{path}` is labeled {times} times", "keep one row for each file")
    for path, label in zip(paths, table["label"].to_pylist(), strict=True):
        if not label:
            yield Mistake(f"`{path}` has an empty label", "label it, or remove its row")


def _duplicates(state: Content, labels: dict[str, str]) -> list[list[str]]:
    by_md5: dict[str, list[str]] = defaultdict(list)
    for path in sorted(labels.keys() & state.entries.keys()):
        by_md5[state.entries[path]].append(path)
    return [paths for paths in by_md5.values() if len(paths) > 1]


def _is_image(path: str) -> bool:
    return path.lower().endswith(tuple(images.SUFFIXES))


def _shortened(found: Iterator[Mistake]) -> list[Mistake]:
    mistakes = list(found)
    more = len(mistakes) - NAMED
    return [*mistakes[:NAMED], Mistake(f"... and {more} more like this")] if more > 0 else mistakes
