"""What is wrong with labels and the files that they name."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from difflib import get_close_matches

import pyarrow as pa
import pyarrow.parquet as pq

from mlstack import shell
from mlstack.config import Config
from mlstack.inputs import folders, images
from mlstack.plurals import counted
from mlstack.records import dataset
from mlstack.version.content import Content
from mlstack.version.result import Finding


def findings(source: str, state: Content, labels: dict[str, str]) -> Iterator[Finding]:
    """Name what is wrong with the labels of files."""
    yield from _odd_rows(state)
    yield from _missing(source, state, labels)
    yield from _contradictions(state, labels)


def class_findings(labels: list[str], config: Config) -> Iterator[Finding]:
    """Name classes that the config does not allow, or that have too few examples."""
    counts = Counter(label for label in labels if label)
    allowed = config.data.classes
    for name, count in sorted(counts.items()) if allowed is not None else ():
        if name not in (allowed or ()):
            near = get_close_matches(name, allowed or (), n=1)
            yield Finding(
                name="unknown-class",
                problem=f"{counted(count, 'example has', 'examples have')} the label `{name}`, "
                "which is not in `data.classes`",
                hint=f"did you mean `{near[0]}`?" if near else "add it there, or relabel them",
            )
    least = config.data.checks.min_per_class
    for name in sorted({*counts, *(allowed or ())}):
        if counts[name] < least:
            yield Finding(
                name="too-few-examples",
                problem=f"class `{name}` has {counted(counts[name], 'example')}; "
                f"`data.checks.min_per_class` asks for {least}",
                hint="label more of them",
            )


def damaged_tables(source: str, state: Content) -> Iterator[Finding]:
    """Name Parquet files that cannot be read to their end."""
    for path in sorted(state.entries):
        if not path.lower().endswith(".parquet"):
            continue
        try:
            with pq.ParquetFile(state.locate(path)) as table:
                for _ in table.iter_batches():
                    pass
        except (pa.ArrowException, OSError) as error:
            yield Finding(
                name="corrupt-file",
                problem=f"`{path}` cannot be read as Parquet: {str(error).splitlines()[0][:120]}",
                hint="replace or remove the file",
                where=f"{source}/{path}",
            )


def how_to_label(source: str, paths: list[str], labels: dict[str, str]) -> str:
    """Say how images without a label get one; the folder of one may be the name of a class."""
    classes = set(labels.values())
    is_by_folder = any(path.split("/")[0] == label for path, label in labels.items())
    new = [path.split("/")[0] for path in paths if path not in labels and "/" in path]
    folders_say = any(is_by_folder or folder in classes for folder in new)
    named = f", or `mlstack label import {shell.path(source)}` takes the names of their folders"
    return f"`mlstack label` shows them{named if folders_say else ''}"


def copies(state: Content, labels: dict[str, str]) -> list[list[str]]:
    """Group labeled files of equal content."""
    by_md5: dict[str, list[str]] = defaultdict(list)
    for path in sorted(labels.keys() & state.entries.keys()):
        by_md5[state.entries[path]].append(path)
    return [paths for paths in by_md5.values() if len(paths) > 1]


def is_image(path: str) -> bool:
    """Tell an image by its suffix."""
    return path.lower().endswith(tuple(images.SUFFIXES))


def _missing(source: str, state: Content, labels: dict[str, str]) -> Iterator[Finding]:
    if not labels:
        yield Finding(name="no-labels", problem="no file has a label", hint="type `mlstack label`")
    drop = (
        "type `mlstack label export --drop-missing`"
        if dataset.LABELS in state.entries
        else f"remove its row from {folders.CSV}"
    )
    for path in sorted(labels.keys() - state.entries.keys()):
        yield Finding(
            name="missing-file",
            problem=f"`{path}` is labeled, but there is no such file",
            hint=f"put it back, or {drop}",
            where=f"{source}/{path}",
        )


def _contradictions(state: Content, labels: dict[str, str]) -> Iterator[Finding]:
    for paths in copies(state, labels):
        if len({labels[path] for path in paths}) > 1:
            named = ", ".join(f"`{path}` is {labels[path]}" for path in paths[:4])
            yield Finding(
                name="contradicting-labels",
                problem=f"equal files with different labels: {named}",
                hint="keep one",
                where=paths[0],
            )


def _odd_rows(state: Content) -> Iterator[Finding]:
    """Name rows of the file of labels that `labels` cannot tell apart: repeated or empty."""
    rows = state.label_rows() or []
    for path, times in Counter(path for path, _ in rows).items():
        if times > 1:
            yield Finding(
                name="repeated-label",
                problem=f"`{path}` is labeled {times} times",
                hint="keep one row for each file",
            )
    for path, label in rows:
        if not label:
            yield Finding(
                name="empty-label",
                problem=f"`{path}` has an empty label",
                hint="label it, or remove its row",
            )
