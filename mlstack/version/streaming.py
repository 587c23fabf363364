"""Objects to and from a remote that takes and gives many of them in one stream."""

import hashlib
import os
import time
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path

from mlstack import files
from mlstack.records.base import Record
from mlstack.version import listing, objects
from mlstack.version.objects import Filling, Objects
from mlstack.version.remote import Outgoing, Stream
from mlstack.version.transfer import (
    TICK_S,
    Job,
    Moved,
    Tally,
    checked,
    damaged,
    plan_fetch,
    plan_push,
)

CHUNK_BYTES = 1 << 20


def push(
    remote: Stream, cache: Path, current: str, older: Iterable[str] = ()
) -> Generator[Record, None, Moved]:
    """Copy what a remote lacks of some versions to it; arguments and errors of `transfer.push`."""
    plan = plan_push(remote, cache, current, older)
    tally = Tally("pushing", plan.files + plan.lists)
    outgoing = (_outgoing(cache, job) for job in tally.jobs)
    told = time.monotonic()
    for one in remote.send(outgoing):
        tally.add(one.size_bytes, objects=1)
        if time.monotonic() - told > TICK_S:
            told = time.monotonic()
            yield tally.moving()
    return tally.moved()


def fetch(remote: Stream, cache: Path, version: str) -> Generator[Record, None, Moved]:
    """Copy what the cache lacks of a version from a remote; errors of `transfer.fetch`.

    Raises:
        MachineError: the disk is full.
    """
    plan = plan_fetch(remote, cache, version)
    tally = Tally("pulling", list(plan.files))
    told = time.monotonic()
    try:
        with Objects(cache).filling() as filling:
            for md5, chunks in remote.receive({job.name: job.size_bytes for job in plan.files}):
                _keep(filling, md5, checked(tally.counted(chunks), md5, remote.url))
                tally.add(0, objects=1)
                if time.monotonic() - told > TICK_S:
                    told = time.monotonic()
                    yield tally.moving()
            filling.flush()
            for job in plan.lists:  # last: where the list is, its files are
                filling.add(job.name, plan.text)
    except OSError as error:
        raise files.cannot_write(cache, error) from error
    tally.add_lists(plan)
    return tally.moved()


def _outgoing(cache: Path, job: Job) -> Outgoing:
    path = listing.object_path(cache, job.name)
    return Outgoing(job.name, job.size_bytes, _hashed(path, job.name))


def _hashed(path: Path, md5: str) -> Iterator[bytes]:
    """Yield an object; at its end refuse one that is damaged, before it gets its name there."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb", buffering=0) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
            yield chunk
    if digest.hexdigest() != md5.removesuffix(".dir"):
        raise damaged(path)


def _keep(filling: Filling, md5: str, chunks: Iterator[bytes]) -> None:
    """Write an object as it comes; one that is damaged is refused at its end."""
    beside = filling.reserve()
    descriptor = objects.create(beside)
    size = 0
    try:
        for chunk in chunks:
            objects.write(descriptor, memoryview(chunk))
            size += len(chunk)
    finally:
        os.close(descriptor)
    filling.register(beside, md5, size)
