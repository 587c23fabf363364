"""The examples of a run: labels read, checked all at once, and divided into parts."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc

from mlstack import packed
from mlstack.config import Config
from mlstack.errors import ConfigError, DataError, Mistake
from mlstack.inputs import folders, splits
from mlstack.inputs.tasks import reads_rows
from mlstack.launch import rows, synthetic
from mlstack.plurals import counted
from mlstack.records import dataset

SHOWN = 10
LEFT_OUT = ""  # the part of generated examples that are not wanted


def prepare(
    folder: Path, config: Config, md5s: dict[str, str], wide: Path | None = None
) -> tuple[pa.Table, list[str]]:
    """Read, check and divide the labeled files of a dataset.

    Args:
        folder: the dataset folder.
        config: the project's settings.
        md5s: MD5 of each file by its path below the folder; equal contents stay in one part.
        wide: the table with the features of its rows (`rows.joined`), where there are any.

    For the tasks `tabular` and `text-classification` the examples are the rows of one table: all
    have its path, and a column `row` says which one is meant.

    Returns:
        The examples (`records.dataset.EXAMPLES_SCHEMA`, the `md5` of each file, then any further
        columns of the labels)
        and the classes in order.

    Raises:
        DataError: the labels are wrong; `mistakes` names the first ten problems.
        ConfigError: `data.split.group_by` names no column.
    """
    is_table = reads_rows(config.project.task)
    table, contents = rows.read(folder, config.data, wide) if is_table else (labels_of(folder), [])
    made = [False] * table.num_rows if is_table else synthetic.flags(table, config)
    paths: list[str] = table["path"].to_pylist()
    labels: list[str] = [label or "" for label in table["label"].to_pylist()]
    genuine = [label for label, is_made in zip(labels, made, strict=True) if not is_made]
    classes = config.data.classes or sorted(set(genuine) - {""}, key=natural)
    wrong = rows.wrong(labels) if is_table else _wrong(paths, labels, md5s)
    _refuse(folder, list(wrong) + list(_off(genuine, labels, classes, config)))
    if is_table:
        names = [str(number) for number in range(len(labels))]
    else:
        names, contents = paths, [md5s[path] for path in paths]
    parts = _parts(_Labeled(table, labels, names, contents), made, config)
    _refuse(folder, list(_thin(labels, parts, classes, config)))
    position = {name: number for number, name in enumerate(classes)}
    places = {path: str(folder / path) for path in set(paths)}  # all rows of a table have one
    examples = pa.table(
        {
            "path": [places[path] for path in paths],
            "label": labels,
            "target": [position[label] for label in labels],
            "split": parts,
        },
        schema=dataset.EXAMPLES_SCHEMA,
    )
    if not is_table:
        examples = examples.append_column("md5", pa.array(contents))
    for name in table.column_names:
        if name not in examples.column_names:
            examples = examples.append_column(name, table[name])
    return examples.filter(pc.not_equal(examples["split"], LEFT_OUT)), classes


def natural(name: str) -> list[tuple[bool, int, str]]:
    """Sort key by which `10` comes after `9`."""
    pieces = re.findall(r"\d+|\D+", name)
    return [(not p.isdecimal(), int(p) if p.isdecimal() else 0, p) for p in pieces]


def labels_of(folder: Path) -> pa.Table:
    """Read which file of a dataset folder has which label.

    Raises:
        DataError: the labels are missing or damaged.
    """
    if (folder / dataset.LABELS).is_file() or packed.is_packed(folder / dataset.LABELS):
        table = dataset.read_labels(folder / dataset.LABELS)
        if not table.num_rows:
            raise DataError(
                f"`{folder.name}/{dataset.LABELS}` has no rows", hint="type `mlstack label`"
            )
        for name in ("path", "label"):
            where = f"column `{name}` of `{folder.name}/{dataset.LABELS}`"
            place = table.column_names.index(name)
            table = table.set_column(place, name, _as_text(table[name], where))
        if table["path"].null_count:
            row = table["path"].to_pylist().index(None) + 1
            raise DataError(
                f"row {row} of `{folder.name}/{dataset.LABELS}` names no file",
                hint="write its path, or remove the row; the first row is 1",
            )
        return table
    found = [{"path": path, "label": label} for path, label in folders.labeled_files(folder)]
    return pa.Table.from_pylist(found, schema=dataset.LABELS_SCHEMA)


def _as_text(column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    """Turn numbers, dates and the like into text; what is no number is no label."""
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    try:
        text = column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"{where} holds {column.type}, not one text a row", hint="write it anew, as text"
        ) from error
    return pc.if_else(pc.equal(pc.utf8_trim_whitespace(text), ""), pa.scalar(None, text.type), text)


def _wrong(paths: list[str], labels: list[str], md5s: dict[str, str]) -> Iterator[Mistake]:
    """Name what is wrong with single rows."""
    first: dict[str, tuple[str, str]] = {}
    for path, times in Counter(paths).items():
        if times > 1:
            yield Mistake(f"`{path}` is listed {times} times", "keep one row for each file")
    for path, label in zip(paths, labels, strict=True):
        if path not in md5s:
            outside = ".." in PurePosixPath(path).parts or path.startswith("/")
            yield Mistake(
                f"`{path}` lies outside the dataset" if outside else f"there is no file `{path}`",
                "bring it back, or type `mlstack label export --drop-missing`",
            )
            continue
        if not label:
            yield Mistake(f"`{path}` has no label", "label it, or take it out of the labels")
        before, its_label = first.setdefault(md5s[path], (path, label))
        if label != its_label and before != path:
            yield Mistake(
                f"`{before}` ({its_label}) and `{path}` ({label}) are equal files with different "
                "labels",
                "correct one of them",
            )


def _off(
    genuine: list[str], labels: list[str], classes: list[str], config: Config
) -> Iterator[Mistake]:
    """Name what is wrong with classes: unknown, empty, too small without what was generated."""
    counts, fewest = Counter(genuine), config.data.checks.min_per_class
    for label, count in sorted(Counter(labels).items(), key=lambda pair: natural(pair[0])):
        if label and label not in classes:
            near = get_close_matches(label, classes, n=1)
            named = "in data.classes" if config.data.classes else "that of any real example"
            yield Mistake(
                f"label `{label}` ({count} examples) is not {named}",
                f"did you mean `{near[0]}`?" if near else "add it there, or correct the labels",
            )
    for name in classes:
        if not counts[name]:
            yield Mistake(
                f"class `{name}` has no example", "label some, or take it out of data.classes"
            )
        elif counts[name] < fewest:
            yield Mistake(
                f"class `{name}` has {_examples(counts[name])}; "
                f"data.checks.min_per_class asks for {fewest}",
                "label more of it",
            )
    task = config.project.task
    if len(classes) < 2 and (task.endswith("classification") or task == "tabular"):
        yield Mistake(f"there is one class only: {', '.join(classes)}", "label a second one")


@dataclass(frozen=True)
class _Labeled:
    """Examples before they are divided."""

    table: pa.Table
    labels: list[str]
    names: list[str]
    contents: list[str]

    def take(self, places: list[int]) -> "_Labeled":
        """Give some of them."""
        return _Labeled(
            self.table.take(places),
            *([column[place] for place in places] for column in self._columns),
        )

    @property
    def _columns(self) -> tuple[list[str], list[str], list[str]]:
        return self.labels, self.names, self.contents


def _parts(given: _Labeled, made: list[bool], config: Config) -> list[str]:
    """Give each example its part; what was generated goes to train, or is left out."""
    genuine = [place for place, is_made in enumerate(made) if not is_made]
    if len(genuine) == len(made):
        return _divide(given, config)
    parts = [LEFT_OUT] * len(made)
    for place, part in zip(genuine, _divide(given.take(genuine), config), strict=True):
        parts[place] = part
    ties = list(zip(*_ties(given, config), given.names, strict=True))
    for place in synthetic.chosen(ties, parts, made, config):
        parts[place] = "train"
    return parts


def _ties(given: _Labeled, config: Config) -> list[list[str]]:
    """Give what makes examples stay in one part: equal contents, equal groups."""
    split = config.data.split
    ties: list[list[str]] = []
    if config.data.checks.no_duplicates_across_splits:
        ties.append([f"md5:{content}" for content in given.contents])
    if split.group_by is not None:
        if split.group_by not in given.table.column_names:
            raise ConfigError(
                f"data.split.group_by: the labels have no column `{split.group_by}`",
                hint=f"they have {', '.join(given.table.column_names)}",
            )
        ties.append([f"group:{value}" for value in given.table[split.group_by].to_pylist()])
    return ties


def _divide(given: _Labeled, config: Config) -> list[str]:
    split, ties = config.data.split, _ties(given, config)
    names = _tie(ties) if ties else given.names
    strata = _strata(names, given.labels) if split.stratify else None
    shares = splits.Shares(split.train, split.val, split.test)
    return splits.divide(names, strata, shares, config.project.seed)


def _tie(ties: list[list[str]]) -> list[str]:
    """Give rows that share any tie, directly or through others, one name."""
    parent: dict[str, str] = {}

    def root(tie: str) -> str:
        while parent.setdefault(tie, tie) != tie:
            parent[tie] = parent[parent[tie]]
            tie = parent[tie]
        return tie

    for row in zip(*ties, strict=True):
        low, *others = sorted({root(tie) for tie in row})
        for other in others:
            parent[other] = low
    return [root(tie) for tie in ties[0]]


def _strata(names: list[str], labels: list[str]) -> list[str]:
    """Give each row the most frequent label of those it is tied to."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for name, label in zip(names, labels, strict=True):
        counts[name][label] += 1
    return [counts[name].most_common(1)[0][0] for name in names]


def _thin(
    labels: list[str], parts: list[str], classes: list[str], config: Config
) -> Iterator[Mistake]:
    """Name classes that are missing from a part that must have them."""
    shares = config.data.split
    there = set(zip(labels, parts, strict=True))
    needed = [p for p in splits.PARTS if getattr(shares, p) > 0]
    for part in needed:
        if part not in parts:
            yield Mistake(f"{part} got no example", "label more, or change data.split")
    for name in classes:
        lacking = [p for p in needed if (name, p) not in there]
        if lacking and (shares.stratify or "train" in lacking):
            yield Mistake(
                f"class `{name}` has too few examples ({labels.count(name)}) to stand in "
                f"{' and '.join(lacking)}",
                "label more of it, or change data.split",
            )


def _refuse(folder: Path, mistakes: list[Mistake]) -> None:
    if not mistakes:
        return
    count = len(mistakes)
    first = f"; the first {SHOWN} are shown" if count > SHOWN else ""
    raise DataError(
        f"{counted(count, 'problem')} with the labels of `{folder.name}`{first}",
        where=str(folder),
        mistakes=tuple(mistakes[:SHOWN]),
    )


def _examples(count: int) -> str:
    return counted(count, "example")
