"""Checks of the machine itself: GPUs, memory, disk, limits, ports."""

import os
import resource
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from mlstack.doctor.check import Check, fail, ok, warning
from mlstack.launch.leases import leases_file, overview

GIB = 1 << 30
SPEED_BYTES = 32 << 20
SHM = Path("/dev/shm")


def python() -> Check:
    """Name the interpreter."""
    return ok("python", f"{sys.version.split()[0]} at {sys.executable}")


def memory() -> Check:
    """Look at processors and memory."""
    state = psutil.virtual_memory()
    free, total = state.available / GIB, state.total / GIB
    detail = f"{os.cpu_count()} processors, {free:.1f} of {total:.1f} GiB memory free"
    if free < 1:
        return warning("memory", detail, "close other programs, or lower train.batch_size")
    return ok("memory", detail)


def gpus() -> tuple[Check, int]:
    """Ask the driver for its GPUs; give their number too."""
    name = "gpu"
    if shutil.which("nvidia-smi") is None:
        return ok(name, "no NVIDIA driver; training and serving use the CPU"), 0
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return fail(name, "nvidia-smi does not answer within 60 s", "restart the machine"), 0
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        said = (done.stderr.strip() or done.stdout.strip() or "no GPU").splitlines()[0]
        return fail(name, f"nvidia-smi: {said}", "reinstall the NVIDIA driver, or restart"), 0
    return ok(name, f"{len(lines)} found: {'; '.join(lines)}"), len(lines)


def leases() -> Check:
    """Say who holds which GPU, and who waits."""
    name = "gpu leases"
    try:
        holders, waiters = overview()
    except sqlite3.Error as error:
        path = leases_file()
        return warning(name, f"{path} cannot be read: {error}", f"rm {path} when nobody trains")
    if not holders and not waiters:
        return ok(name, "nobody holds a GPU, nobody waits")
    hours = (f"{holder} holds {holder.uuid} for {_since(holder.since)}" for holder in holders)
    waits = (f"{place}. in the queue is {one}" for place, one in enumerate(waiters, start=1))
    return ok(name, "; ".join([*hours, *waits]))


def _since(moment: float) -> str:
    seconds = int(max(0, time.time() - moment))
    return f"{seconds // 3600} h {seconds // 60 % 60:02} min"


def shared_memory() -> Check:
    """Look at /dev/shm, through which data loaders hand over batches."""
    if not SHM.is_dir():
        return ok("/dev/shm", "not on this system")
    free = shutil.disk_usage(SHM).free
    detail = f"{free / GIB:.1f} GiB free"
    if free < GIB:
        return warning(
            "/dev/shm", f"{detail}; data loaders may die", "docker run --shm-size=2g, or --ipc=host"
        )
    return ok("/dev/shm", detail)


def open_files() -> Check:
    """Look at how many files a process may open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 1024:
        return warning("open files", f"{soft} at most", f"ulimit -n {min(hard, 65536)}")
    return ok("open files", f"{soft} at most")


def disk(folder: Path) -> Iterator[Check]:
    """Look at room and speed of the disk that holds `folder`."""
    free = shutil.disk_usage(folder).free / GIB
    detail = f"{free:.1f} GiB free at {folder}"
    if free < 1:
        yield fail("disk", detail, "free some space; `mlstack version gc` drops old data versions")
        return
    if free < 10:
        yield warning("disk", detail, "free some space before long runs")
    else:
        yield ok("disk", detail)
    yield _disk_speed(folder)


def _disk_speed(folder: Path) -> Check:
    try:
        with tempfile.TemporaryFile(dir=folder) as stream:
            begin = time.monotonic()
            stream.write(os.urandom(SPEED_BYTES))
            stream.flush()
            os.fsync(stream.fileno())
            seconds = max(time.monotonic() - begin, 1e-6)
    except OSError as error:
        said = f"cannot write in {folder}: {error.strerror}"
        return fail("disk speed", said, f"check the permissions of {folder}")
    speed = SPEED_BYTES / 1e6 / seconds
    detail = f"{speed:,.0f} MB/s written and synced"
    if speed < 20:
        return warning("disk speed", detail, "keep the project on a local disk")
    return ok("disk speed", detail)


def port(host: str, number: int) -> Check:
    """See whether `serve` could listen."""
    name = f"port {number}"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
        except OSError as error:
            said = f"{host}:{number}: {(error.strerror or str(error)).lower()}"
            return warning(name, said, "mlstack serve --set serve.port=0 takes a free one")
    return ok(name, f"free on {host}")
