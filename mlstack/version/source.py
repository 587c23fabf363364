"""Copy what `data.source` names into the project: only what is new, whole files, resumable."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import PurePosixPath

from mlstack import files
from mlstack.config import Project
from mlstack.config.data_sections import Data
from mlstack.errors import BusyError, ConfigError, DataError, MachineError
from mlstack.plurals import counted, plural
from mlstack.records import ignore
from mlstack.records.base import Record
from mlstack.records.layout import Layout
from mlstack.records.source import CopiedFile, Notes, Source
from mlstack.version import transfer
from mlstack.version.origins import Origin, Stamp, open_origin
from mlstack.version.result import SourceCopied, Working
from mlstack.version.transfer import Job, Tally

TABLES = (".parquet", ".csv")
ROWS = "table.parquet"  # what rows are kept as


def copy(project: Project, *, force: bool) -> Iterator[Record]:
    """Bring the project's folder up to date with its source.

    Args:
        project: the project.
        force: replace files that were changed here.

    Raises:
        ConfigError: the source is a folder, or it refuses who asks.
        DataError: there is nothing, or a file that would be replaced was changed here.
        BusyError: the source cannot be reached; what was copied stays.
        MachineError: a package that speaks to it is not installed.
    """
    data, layout = project.config.data, Layout(project.root)
    if not data.is_remote:
        raise ConfigError(
            f"data.source: `{data.source}` is a folder; there is nothing to copy",
            hint="write a URL such as s3://BUCKET/FOLDER there",
        )
    with files.lock(layout.state / "source.lock", f"copying into {data.folder}"):
        yield Working(text=f"{data.folder}: looking at {data.source}")
        if data.source.startswith("postgresql://"):
            yield from _copy_rows(data, layout, force=force)
        else:
            yield from _Copy(open_origin(data.source), layout, data.folder).run(force=force)


def _copy_rows(data: Data, layout: Layout, *, force: bool) -> Iterator[Record]:
    try:
        postgres = import_module("mlstack.version.postgres")
    except ImportError as error:
        raise MachineError(
            "data.source: the package for postgresql:// is not installed",
            hint="type `pip install 'mlstack[postgres]'`",
        ) from error
    layout.coming.mkdir(parents=True, exist_ok=True)
    coming, target, rows = layout.coming / ROWS, layout.root / data.folder / ROWS, 0
    for progress in postgres.read(data, coming):
        rows = progress.rows
        yield progress
    notes, source = Notes(layout.source), Source(url=data.source, folder=data.folder)
    known, md5 = notes.read(source).get(ROWS), files.md5(coming)
    here = files.md5(target) if target.is_file() else None
    if here not in (None, md5, known and known.md5) and not force:
        raise _changed_here(data.folder, [ROWS])
    size, mtime_ns = coming.stat().st_size, coming.stat().st_mtime_ns
    if here != md5:
        note = CopiedFile(path=ROWS, size_bytes=size, stamp=md5, mtime_ns=mtime_ns, md5=md5)
        notes.write(source, [note])
        files.move(coming, target)
    coming.unlink(missing_ok=True)
    yield SourceCopied(
        dataset=target.parent.name,
        source=data.source,
        folder=data.folder,
        files=1,
        copied=int(here != md5),
        removed=0,
        size_bytes=size if here != md5 else 0,
        rows=rows,
    )


def _changed_here(folder: str, names: list[str]) -> DataError:
    return DataError(
        f"{counted(len(names), 'file')} of `{folder}` {plural(len(names), 'was', 'were')} changed "
        f"here and {plural(len(names), 'differs', 'differ')} from the source, "
        f"e.g. `{names[0]}`",
        hint="move them away, or repeat with --force to lose them",
    )


@dataclass(frozen=True)
class _File:
    """One file of the source."""

    path: str  # below the URL
    stamp: Stamp


class _Copy:
    """One copying: what is there, what is here, and the notes of what was brought."""

    def __init__(self, origin: Origin, layout: Layout, folder: str) -> None:
        self._origin = origin
        self._layout = layout
        self._name = folder
        self._folder = layout.root / folder
        self._notes = Notes(layout.source)
        self._source = Source(url=origin.url, folder=folder)
        self._known = self._notes.read(self._source)

    def run(self, *, force: bool) -> Iterator[Record]:
        there = self._listed()
        new = [name for name, file in there.items() if self._differs(name, file.stamp)]
        gone = [name for name in self._known if name not in there]
        self._refuse_to_lose([*new, *gone], force=force)
        jobs = [Job(name, there[name].stamp.size_bytes) for name in new]
        tally = Tally("copying", jobs)
        self._notes.write(self._source, [*self._known.values()])

        def take(job: Job, count: Tally) -> None:
            self._take(job.name, there[job.name], count)

        yield from transfer.each(jobs, take, tally, self._origin.workers)
        for name in gone:
            (self._folder / name).unlink(missing_ok=True)
        self._notes.write(self._source, [self._known[name] for name in there])
        yield SourceCopied(
            dataset=self._folder.name,
            source=self._origin.url,
            folder=self._name,
            files=len(there),
            copied=len(new),
            removed=len(gone),
            size_bytes=tally.done_bytes,
        )

    def _listed(self) -> dict[str, _File]:
        """List the source by the names that its files get here."""
        url, found = self._origin.url, self._origin.list()
        if not found:
            raise DataError(f"data.source: `{url}` holds no files", hint="put the data there")
        for path in found:
            if {"", ".", ".."} & set(path.split("/")) or path.endswith(ignore.NAME):
                raise DataError(
                    f"data.source: `{url}` holds `{path}`, which cannot be a file of a dataset",
                    hint="rename it there",
                )
        (path, *others) = found
        suffix = PurePosixPath(path).suffix
        if not others and url.endswith(path) and suffix in TABLES:  # one table, by its own URL
            return {f"table{suffix}": _File(path, found[path])}
        return {path: _File(path, stamp) for path, stamp in sorted(found.items())}

    def _differs(self, name: str, stamp: Stamp) -> bool:
        """Tell whether a file must be copied: unknown, gone from here, or another one there."""
        known = self._known.get(name)
        same = known and (known.size_bytes, known.stamp) == (stamp.size_bytes, stamp.text)
        return not same or not (self._folder / name).is_file()

    def _refuse_to_lose(self, names: list[str], *, force: bool) -> None:
        changed = [name for name in names if self._is_changed_here(name)]
        if changed and not force:
            raise _changed_here(self._name, changed)

    def _is_changed_here(self, name: str) -> bool:
        path, known = self._folder / name, self._known.get(name)
        if not path.is_file():
            return False
        if known is None or path.stat().st_mtime_ns == known.mtime_ns:
            return known is None
        return files.md5(path) != known.md5  # a checkout gives equal files another time

    def _take(self, name: str, file: _File, tally: Tally) -> None:
        """Copy one file; what an earlier attempt has brought of it is kept."""
        url, stamp, target = self._origin.url, file.stamp, self._folder / name
        what = f"{url}\0{file.path}\0{stamp.size_bytes}\0{stamp.text}".encode()
        coming = self._layout.coming / hashlib.sha256(what).hexdigest()[:32]
        have = coming.stat().st_size if coming.is_file() else 0
        files.extend(coming, tally.counted(self._origin.read(file.path, have)))
        size = coming.stat().st_size
        if size != stamp.size_bytes:
            coming.unlink()
            raise BusyError(
                f"`{url}/{file.path}` was changed while it was copied",
                hint="try again; what was copied stays copied",
            )
        mtime_ns = coming.stat().st_mtime_ns
        self._known[name] = CopiedFile(
            path=name, size_bytes=size, stamp=stamp.text, mtime_ns=mtime_ns, md5=files.md5(coming)
        )
        self._notes.add(self._known[name])  # first: a file without a note is somebody's own
        files.move(coming, target)
