"""Objects to and from a remote: in threads, each whole or not there, lists of files last."""

import hashlib
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock

from mlstack import files
from mlstack.errors import DataError
from mlstack.records import dvc
from mlstack.records.base import Record
from mlstack.version import listing
from mlstack.version.remote import Remote
from mlstack.version.result import Moving

CHUNK_BYTES = 8 << 20
OBJECT_BYTES = 64 << 10  # that a request takes as long as, beside those of the object
TICK_S = 0.2  # between two records of progress


@dataclass(frozen=True)
class Moved:
    """What went to or came from a remote."""

    objects: int = 0
    size_bytes: int | None = 0  # None: nobody counted
    fresh: frozenset[str] = frozenset()  # MD5s of objects that came and were hashed on their way


@dataclass(frozen=True)
class Job:
    """One object or file on its way."""

    name: str
    size_bytes: int


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
    listings = {current, *(one for one in older if listing.object_path(cache, one).is_file())}
    objects = {md5 for one in listings for md5 in _entries(cache, one).values()}
    there = remote.sizes(objects | listings)
    lacking = [job for md5 in sorted(objects) if (job := _lacks(cache, md5, there))]
    needed = set(_entries(cache, current).values()) | {current}
    if lost := [
        md5 for md5 in needed - there.keys() if not listing.object_path(cache, md5).is_file()
    ]:
        raise DataError(
            f"{len(lost)} files of version {current[:8]} are neither here nor in `{remote.url}`",
            hint="type `mlstack version snapshot -m MESSAGE` where they are",
        )
    lists = [job for md5 in sorted(listings) if (job := _lacks(cache, md5, there))]

    def send(job: Job, tally: "Tally") -> None:
        path = listing.object_path(cache, job.name)
        if files.md5(path) != job.name.removesuffix(
            ".dir"
        ):  # one bad object would spoil the remote
            raise DataError(
                f"`{path}` is damaged; it was not pushed",
                hint="type `mlstack version verify`, which names what is damaged",
            )
        remote.put(job.name, tally.counted(_chunks(path)))

    tally = Tally("pushing", lacking + lists)
    yield from each(lacking, send, tally, remote.workers)
    yield from each(lists, send, tally, remote.workers)  # whoever sees a list can get its files
    return tally.moved()


def fetch(remote: Remote, cache: Path, version: str) -> Generator[Record, None, Moved]:
    """Copy what the cache lacks of a version from a remote.

    Raises:
        DataError: the remote lacks an object, or one has not the content that its name says.
    """
    here = listing.object_path(cache, version)
    if here.is_file():
        text, lists = here.read_bytes(), []
    else:
        if version not in (sizes := remote.sizes([version])):
            raise _absent(remote, version, 1)
        text, lists = b"".join(_checked(remote.read(version), version, remote.url)), [version]
    wanted = set(dvc.parse_listing(text, where=str(here)).values())
    lacking = sorted(md5 for md5 in wanted if not listing.object_path(cache, md5).is_file())
    there = remote.sizes(lacking) if lacking else {}
    if absent := [md5 for md5 in lacking if md5 not in there]:
        raise _absent(remote, version, len(absent))

    def receive(job: Job, tally: "Tally") -> None:
        chunks = tally.counted(_checked(remote.read(job.name), job.name, remote.url))
        files.write_chunks(listing.object_path(cache, job.name), chunks, mode=0o444)

    tally = Tally("pulling", [Job(md5, there[md5]) for md5 in lacking])
    yield from each(tally.jobs, receive, tally, remote.workers)
    for md5 in lists:  # last: where the list is, its files are
        files.write_chunks(listing.object_path(cache, md5), [text], mode=0o444)
        tally.jobs.append(Job(md5, sizes[md5]))
        tally.add(len(text))
    return tally.moved()


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


def _checked(chunks: Iterable[bytes], md5: str, url: str) -> Iterator[bytes]:
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


def _absent(remote: Remote, version: str, count: int) -> DataError:
    return DataError(
        f"`{remote.url}` lacks {count} objects of version {version[:8]}",
        hint="type `mlstack version push` where the data is",
    )
