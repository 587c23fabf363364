"""Checks that take several processes, each with a limit: GPUs that add up, GPUs that copy."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from mlstack.doctor.check import Check, fail, ok, warning
from mlstack.doctor.seen import GroupSeen
from mlstack.launch import tether
from mlstack.records.worker import WorkerFailed

LIMIT_S = 120.0  # of a check; most of it is importing torch
POLL_S = 0.1
NCCL = (
    "NCCL_DEBUG=INFO mlstack doctor says more; NCCL_P2P_DISABLE=1 or NCCL_IB_DISABLE=1 may help, "
    "as may turning off ACS or IOMMU in the BIOS"
)


def gpus(count: int, *, each_works: bool) -> Iterator[Check]:
    """Let all GPUs add up a number, and each pair copy to each other."""
    if count < 2 or not each_works:
        there = "torch does not compute on each GPU" if count > 1 else _too_few(count)
        for name in ("all-reduce", "peer-to-peer"):
            yield ok(name, f"not tried: {there}")
        return
    yield all_reduce(count, "nccl")
    yield peer_to_peer()


def all_reduce(count: int, backend: str, limit_s: float = LIMIT_S) -> Check:
    """Let so many processes add up their numbers, and compare with the known sum."""
    name = "all-reduce"
    seen = _ask(count, ["all-reduce", backend], limit_s)
    wanted = count * (count + 1) // 2
    problem = next((one.problem for one in seen if one.problem), "")
    if problem:
        return fail(name, f"{backend}, {count} processes: {problem}", NCCL)
    sums = {one.total for one in seen}
    if sums != {wanted}:
        return fail(name, f"{backend} adds 1 to {count} up to {sums}, not {wanted}", NCCL)
    slowest = max(one.milliseconds for one in seen)
    return ok(name, f"{backend}: {count} processes agree, 64 MiB in {slowest:.0f} ms")


def peer_to_peer(limit_s: float = LIMIT_S) -> Check:
    """Copy between each pair of GPUs, and see that what arrives is what was sent."""
    name = "peer-to-peer"
    (seen,) = _ask(1, ["peer-to-peer"], limit_s)
    if seen.problem:
        return fail(name, seen.problem, NCCL)
    if seen.indirect:
        pairs = ", ".join(seen.indirect)
        return warning(
            name,
            f"copies arrive, but by way of the processor's memory: {pairs}",
            "nvidia-smi topo -m shows how they are joined; expect less of several GPUs",
        )
    return ok(name, "each pair of GPUs copies directly, and what arrives is what was sent")


def _too_few(count: int) -> str:
    return f"it takes two GPUs, and there {'is one' if count else 'is none'}"


def _ask(count: int, words: list[str], limit_s: float) -> list[GroupSeen]:
    """Run so many workers together; one that does not answer in time is the finding."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with TemporaryDirectory() as folder:
        logs = [Path(folder, f"{rank}.log") for rank in range(count)]
        started = [_start(rank, count, port, words, log) for rank, log in enumerate(logs)]
        try:
            _wait(started, limit_s)
            return [
                _answer(rank, process.poll(), log, limit_s)
                for rank, (process, log) in enumerate(zip(started, logs, strict=True))
            ]
        finally:
            for process in started:
                with suppress(ProcessLookupError):
                    process.kill()
                process.wait()


def _start(
    rank: int, count: int, port: int, words: list[str], log: Path
) -> "subprocess.Popen[bytes]":
    worker = [sys.executable, "-m", "mlstack.doctor.worker", *words]
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with log.open("wb") as stream:
        return subprocess.Popen(
            tether.tied(signal.SIGKILL, worker),
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=stream,
            stderr=subprocess.DEVNULL,
        )


def _wait(started: list["subprocess.Popen[bytes]"], limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while any(one.poll() is None for one in started) and time.monotonic() < deadline:
        time.sleep(POLL_S)


def _answer(rank: int, code: int | None, log: Path, limit_s: float) -> GroupSeen:
    if code is None:
        return GroupSeen(problem=f"process {rank} does not answer within {limit_s:.0f} s")
    lines = [line for line in log.read_bytes().splitlines() if line.startswith(b"{")]
    if not lines:
        return GroupSeen(problem=f"process {rank} died with exit code {code}")
    said = msgspec.json.decode(lines[-1], type=GroupSeen | WorkerFailed)
    return GroupSeen(problem=said.problem) if isinstance(said, WorkerFailed) else said
