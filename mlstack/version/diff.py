"""What two versions differ in: files by their hash first, then only into those that differ."""

from collections import Counter, defaultdict
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from mlstack.config import Project
from mlstack.inputs import folders
from mlstack.inputs import tables as inputs
from mlstack.printable import printable
from mlstack.records import dataset, dvc
from mlstack.records.base import Record
from mlstack.records.layout import Layout
from mlstack.version import content, history, sheet, stock, tables
from mlstack.version.content import Content
from mlstack.version.difference import ClassChange, Difference, Relabelled, Renamed, TableChange
from mlstack.version.history import Dataset, dataset_of
from mlstack.version.result import Counted, Working
from mlstack.version.same import Asked

TICK_S = 0.2  # between two looks at the progress


@dataclass(frozen=True)
class _Sides:
    """Both versions, and the files that differ."""

    data: Dataset
    before: Content
    after: Content
    renamed: dict[str, str]  # path after -> path before
    scratch: Path

    @property
    def added(self) -> list[str]:
        gone = self.before.entries.keys() | self.renamed.keys()
        return sorted(self.after.entries.keys() - gone)

    @property
    def removed(self) -> list[str]:
        kept = self.after.entries.keys() | set(self.renamed.values())
        return sorted(self.before.entries.keys() - kept)

    @property
    def changed(self) -> list[str]:
        old, new = self.before.entries, self.after.entries
        return sorted(path for path in old.keys() & new.keys() if old[path] != new[path])


def diff(project: Project, asked: Asked) -> Iterator[Record]:
    """Compare two versions; without a second one, the working tree.

    Raises:
        ConfigError: git does not know a revision, or `key` names no rows.
        DataError: a version's files are not in the cache, or its labels are damaged.
    """
    data = dataset_of(project)
    before, after = _side(data, asked.first), _side(data, asked.second)
    sides = _Sides(
        data, before, after, _renames(before.entries, after.entries), Layout(project.root).state
    )
    changes = []
    for wanted in _tables(sides, asked):
        yield Working(text=f"{printable(wanted.path)}: comparing its rows")
        changes.append((yield from _compared(wanted)))
    if asked.out is not None and not changes:
        yield Working(text=f"no table differs; {asked.out} is not written")
    found = _difference(sides, changes)
    if asked.page is not None:
        yield Working(text=f"drawing {asked.page}")
        sheet.write(asked.page, found, before, after)
        found = replace(found, page=str(asked.page))
    yield found


def _side(data: Dataset, revision: str | None) -> Content:
    if revision is None:
        return content.of_folder(data)
    commit = history.resolve(data, revision)
    pointer = dvc.parse_pointer(history.pointer_text(data, commit), where=revision)
    cache = stock.cache_folder(data.root)
    return content.of_version(cache, pointer, revision, data.label)


def _renames(before: dict[str, str], after: dict[str, str]) -> dict[str, str]:
    """Match files that are gone with files that are new and have the same content."""
    gone: dict[str, list[str]] = defaultdict(list)
    for path in sorted(before.keys() - after.keys(), reverse=True):
        gone[before[path]].append(path)
    return {
        path: gone[after[path]].pop()
        for path in sorted(after.keys() - before.keys())
        if gone.get(after[path])
    }


def _tables(sides: _Sides, asked: Asked) -> list[tables.Wanted]:
    paths = [path for path in sides.changed if tables.is_table(path)]
    wanted = []
    for number, path in enumerate(paths, start=1):
        is_labels = path in (dataset.LABELS, folders.CSV)
        out = asked.out
        if out is not None and len(paths) > 1:
            out = out.with_name(f"{out.stem}-{number}-{Path(path).stem}{out.suffix}")
        wanted.append(
            tables.Wanted(
                path,
                sides.before.locate(path),
                sides.after.locate(path),
                sides.scratch,
                key=() if is_labels else asked.key,
                label="label" if is_labels else sides.data.label,
                out=out,
            )
        )
    return wanted


def _compared(wanted: tables.Wanted) -> Generator[Record, None, TableChange]:
    """Compare a table in a thread, and say how far it is."""
    watch = tables.Watch()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(tables.compare, wanted, watch)
        try:
            while not wait([future], timeout=TICK_S).done:
                text = f"comparing rows of {printable(wanted.path)}"
                yield Counted(text=text, done=round(watch.percent()), total=100)
        finally:
            if not future.done():  # a Ctrl-C need not wait for the query
                watch.stop()
        return future.result()


def _difference(sides: _Sides, changes: list[TableChange]) -> Difference:
    added, removed, changed = sides.added, sides.removed, sides.changed
    label = sides.data.label
    relabelled, classes = _labels(sides) if label is None else _rows(sides, label, changes)
    counted = len(relabelled)
    if label is not None:
        rows = [one for one in changes if one.path in inputs.NAMES]
        counted = sum(one.cells_changed.get(label, 0) for one in rows)
    return Difference(
        dataset=sides.data.name,
        before=sides.before.name,
        after=sides.after.name,
        added=added,
        removed=removed,
        changed=changed,
        renamed=[Renamed(before=old, after=new) for new, old in sorted(sides.renamed.items())],
        relabelled=relabelled,
        relabelled_count=counted,
        bytes_added=_size(sides.after, [*added, *changed]),
        bytes_removed=_size(sides.before, [*removed, *changed]),
        classes=classes,
        tables=changes,
    )


def _labels(sides: _Sides) -> tuple[list[Relabelled], list[ClassChange]]:
    """Compare the labels of files; a file that was renamed keeps its label or is relabelled."""
    before = sides.before.labels()
    is_same = sides.before.entries == sides.after.entries
    after = before if is_same else sides.after.labels()
    relabelled = [
        Relabelled(path=path, before=before.get(old), after=after.get(path))
        for path in sorted(sides.after.entries)
        if (old := sides.renamed.get(path, path)) in sides.before.entries
        and before.get(old) != after.get(path)
    ]
    return relabelled, _balance(Counter(before.values()), Counter(after.values()))


def _rows(
    sides: _Sides, label: str, changes: list[TableChange]
) -> tuple[list[Relabelled], list[ClassChange]]:
    """Compare the labels of rows, as far as the table can be read."""
    for change in changes:
        if change.path in inputs.NAMES:
            balance = _balance(Counter(change.classes_before), Counter(change.classes_after))
            return change.relabelled, balance
    counts = []
    for side in (sides.before, sides.after):
        name = next((name for name in inputs.NAMES if name in side.entries), None)
        place = side.locate(name) if name else None
        found = tables.classes(place, name, label, sides.scratch) if place and name else {}
        counts.append(Counter(found))
    return [], _balance(*counts)


def _balance(before: Counter[str], after: Counter[str]) -> list[ClassChange]:
    return [
        ClassChange(
            name=name,
            before=before[name],
            after=after[name],
            delta=after[name] - before[name],
            flag="new" if not before[name] else "" if after[name] else "vanished",
        )
        for name in sorted(before.keys() | after.keys())
    ]


def _size(side: Content, paths: list[str]) -> int | None:
    try:
        return sum(side.locate(path).stat().st_size for path in paths)
    except FileNotFoundError:  # a clone that has not pulled them
        return None
