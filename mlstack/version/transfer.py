"""Objects to and from a remote: in threads, each whole or not there, lists of files last."""

import hashlib
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock

from mlstack import files
from mlstack.errors import DataError
from mlstack.plurals import counted, plural
from mlstack.records import dvc
from mlstack.records.base import Record
from mlstack.version import listing
from mlstack.version.remote import Remote, Stream
from mlstack.version.result import Moving

CHUNK_BYTES = 8 << 20
OBJECT_BYTES = 64 << 10  # that a request takes as long as, beside those of the object
TICK_S = 0.2  # between two records of progress

Fresh = Mapping[str, bytes | None]  # MD5 of what came and was hashed on its way -> its content


@dataclass(frozen=True)
class Moved:
    """What went to or came from a remote."""

    objects: int = 0
    size_bytes: int | None = 0  # None: nobody counted
    fresh: Fresh = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """One object or file on its way."""

    name: str
    size_bytes: int


@dataclass(frozen=True)
class Plan:
    """What must be moved, the lists of files apart: they go last."""

    files: list[Job]
    lists: list[Job]
    text: bytes = b""  # of the one list that a pull is about


def push(
    remote: Remote, cache: Path, current: str, older: Iterable[str] = ()
) -> Generator[Record, None, Moved]:
    """Copy what a remote lacks of some versions to it.

    Args:
        remote: where to.
        cache: DVC's cache.
        current: MD5 of a version that must be whole here or there.
        older: those of versions that go along as far as they are here.

    Raises:
        DataError: an object of the current version is nowhere, or one is damaged.
    """
    plan = plan_push(remote, cache, current, older)

    def send(job: Job, tally: "Tally") -> None:
        path = listing.object_path(cache, job.name)
        if files.md5(path) != job.name.removesuffix(
            ".dir"
        ):  # one bad object would spoil the remote
            raise damaged(path)
        remote.put(job.name, tally.counted(_chunks(path)))

    tally = Tally("pushing", plan.files + plan.lists)
    yield from each(plan.files, send, tally, remote.workers)
    yield from each(plan.lists, send, tally, remote.workers)
    return tally.moved()


def plan_push(
    remote: Remote | Stream, cache: Path, current: str, older: Iterable[str] = ()
) -> Plan:
    """Ask a remote what it lacks of some versions; whoever sees a list there can get its files.

    Raises:
        DataError: an object of the current version is nowhere.
    """
    listings = {current, *(one for one in older if listing.object_path(cache, one).is_file())}
    objects = {md5 for one in listings for md5 in _entries(cache, one).values()}
    there = remote.sizes(objects | listings)
    lacking = [job for md5 in sorted(objects) if (job := _lacks(cache, md5, there))]
    needed = set(_entries(cache, current).values()) | {current}
    if lost := [
        md5 for md5 in needed - there.keys() if not listing.object_path(cache, md5).is_file()
    ]:
        raise DataError(
            f"{counted(len(lost), 'file')} of version {current[:8]} "
            f"{plural(len(lost), 'is', 'are')} neither here nor in `{remote.url}`",
            hint="type `mlstack version snapshot -m MESSAGE` where they are",
        )
    return Plan(lacking, [job for md5 in sorted(listings) if (job := _lacks(cache, md5, there))])


def fetch(remote: Remote, cache: Path, version: str) -> Generator[Record, None, Moved]:
    """Copy what the cache lacks of a version from a remote.

    Raises:
        DataError: the remote lacks an object, or one has not the content that its name says.
    """
    plan = plan_fetch(remote, cache, version)

    def receive(job: Job, tally: "Tally") -> None:
        chunks = tally.counted(checked(remote.read(job.name), job.name, remote.url))
        files.write_chunks(listing.object_path(cache, job.name), chunks, mode=0o444)

    tally = Tally("pulling", plan.files)
    yield from each(plan.files, receive, tally, remote.workers)
    for job in plan.lists:
        files.write_chunks(listing.object_path(cache, job.name), [plan.text], mode=0o444)
    tally.add_lists(plan)
    return tally.moved()


def plan_fetch(remote: Remote | Stream, cache: Path, version: str) -> Plan:
    """Find out what the cache lacks of a version, and read its list of files.

    Raises:
        DataError: the remote lacks an object.
    """
    here, lists = listing.object_path(cache, version), []
    if here.is_file():
        text = here.read_bytes()
    else:
        if version not in (sizes := remote.sizes([version])):
            raise _absent(remote.url, version, 1)
        text = b"".join(checked(remote.read(version), version, remote.url))
        lists = [Job(version, sizes[version])]
    wanted = set(dvc.parse_listing(text, where=str(here)).values())
    lacking = sorted(md5 for md5 in wanted if not listing.object_path(cache, md5).is_file())
    there = remote.sizes(lacking) if lacking else {}
    if absent := [md5 for md5 in lacking if md5 not in there]:
        raise _absent(remote.url, version, len(absent))
    return Plan([Job(md5, there[md5]) for md5 in lacking], lists, text)


@dataclass
class Tally:
    """How far a transfer is; several threads count in it."""

    text: str
    jobs: list[Job]
    done: int = 0
    done_bytes: int = 0
    since: float = field(default_factory=time.monotonic)
    _guard: Lock = field(default_factory=Lock)

    def add(self, size_bytes: int, objects: int = 0) -> None:
        """Count bytes and finished objects."""
        with self._guard:
            self.done_bytes += size_bytes
            self.done += objects

    def add_lists(self, plan: "Plan") -> None:
        """Count the lists of files that were written at the end."""
        self.jobs.extend(plan.lists)
        self.add(sum(job.size_bytes for job in plan.lists))

    def counted(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Count bytes as they pass."""
        for chunk in chunks:
            yield chunk
            self.add(len(chunk))

    def moving(self) -> Moving:
        """Give the progress so far."""
        seconds = max(time.monotonic() - self.since, 1e-3)
        total_bytes = sum(job.size_bytes for job in self.jobs)
        weight = max(total_bytes + OBJECT_BYTES * len(self.jobs), 1)
        return Moving(
            text=self.text,
            done=self.done,
            total=len(self.jobs),
            done_bytes=self.done_bytes,
            total_bytes=total_bytes,
            bytes_per_s=self.done_bytes / seconds,
            share=min((self.done_bytes + OBJECT_BYTES * self.done) / weight, 1.0),
        )

    def moved(self) -> Moved:
        """Give the sum at the end."""
        return Moved(len(self.jobs), self.done_bytes)


def each(
    jobs: list[Job], act: Callable[[Job, Tally], None], tally: Tally, workers: int
) -> Iterator[Moving]:
    """Do every job in threads, large ones first; the first that fails ends it."""
    from concurrent.futures import (  # noqa: PLC0415  8 ms, which a folder need not wait for
        FIRST_EXCEPTION,
        ThreadPoolExecutor,
        wait,
    )

    waiting = iter(sorted(jobs, key=lambda job: -job.size_bytes))  # `next` is one step for threads
    stopped = Event()

    def work() -> None:
        while not stopped.is_set() and (job := next(waiting, None)) is not None:
            act(job, tally)
            tally.add(0, objects=1)

    with ThreadPoolExecutor(max(1, min(workers, len(jobs)))) as pool:
        running = {pool.submit(work) for _ in range(min(workers, len(jobs)))}
        try:
            while running:
                done, running = wait(running, TICK_S, FIRST_EXCEPTION)
                for future in done:
                    future.result()
                yield tally.moving()
        finally:
            stopped.set()


def _entries(cache: Path, version: str) -> dict[str, str]:
    return listing.read(cache, version, version[:8])


def _lacks(cache: Path, md5: str, there: dict[str, int]) -> Job | None:
    """Give the job of an object that is here and not, or not as long, in the remote."""
    path = listing.object_path(cache, md5)
    size = path.stat().st_size if path.is_file() else None
    return None if size is None or there.get(md5) == size else Job(md5, size)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def checked(chunks: Iterable[bytes], md5: str, url: str) -> Iterator[bytes]:
    """Pass bytes on, and refuse them at their end when they are not what the name says."""
    digest = hashlib.md5(usedforsecurity=False)
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != md5.removesuffix(".dir"):
        raise DataError(
            f"the object {md5} in `{url}` is damaged; it was not taken",
            hint="delete it there, then type `mlstack version push` where the data is whole",
        )


def damaged(path: Path) -> DataError:
    """Give the error of an object of the cache that is not what its name says."""
    return DataError(
        f"`{path}` is damaged; it was not pushed",
        hint="type `mlstack version verify`, which names what is damaged",
    )


def _absent(url: str, version: str, count: int) -> DataError:
    return DataError(
        f"`{url}` lacks {counted(count, 'object')} of version {version[:8]}",
        hint="type `mlstack version push` where the data is",
    )
