"""Checks of the machine itself: GPUs, memory, disk, limits, ports."""

import errno
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from mlstack import files
from mlstack.doctor.check import Check, fail, ok, warning
from mlstack.errors import MlstackError
from mlstack.launch.gpus import parse, visible
from mlstack.launch.leases import overview
from mlstack.launch.memory import memory as usable

GIB = 1 << 30
FEW_FILES = 10_000
GPU = "index,uuid,name,memory.total,driver_version"
VISIBLE = "CUDA_VISIBLE_DEVICES"
SPEED_BYTES = 32 << 20
SHM = Path("/dev/shm")


def python() -> Check:
    """Name the interpreter."""
    return ok("python", f"{sys.version.split()[0]} at {sys.executable}")


def memory() -> Check:
    """Look at processors and memory."""
    found = usable()
    free, total = found.free / GIB, found.total / GIB
    detail = f"{os.cpu_count()} processors, {free:.1f} of {total:.1f} GiB memory free"
    if found.is_limited:
        detail += f", which this container or job is limited to ({_total():.1f} GiB are there)"
    if free < 1:
        return warning("memory", detail, "close other programs, or lower train.batch_size")
    return ok("memory", detail)


def _total() -> float:
    return float(psutil.virtual_memory().total / GIB)


def gpus() -> tuple[Check, int]:
    """Ask the driver for its GPUs; give the number of those that may be used too."""
    name = "gpu"
    if shutil.which("nvidia-smi") is None:
        return ok(name, "no NVIDIA driver; training and serving use the CPU"), 0
    query = ["nvidia-smi", f"--query-gpu={GPU}", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return fail(name, "nvidia-smi does not answer within 60 s", "restart the machine"), 0
    except OSError as error:
        return fail(name, f"nvidia-smi: {error.strerror}", "reinstall the NVIDIA driver"), 0
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        said = (done.stderr.strip() or done.stdout.strip() or "no GPU").splitlines()[0]
        return fail(name, f"nvidia-smi: {said}", "reinstall the NVIDIA driver, or restart"), 0
    told = "; ".join(line.split(", ", 2)[-1] for line in lines)
    detail, setting = f"{len(lines)} found: {told}", os.environ.get(VISIBLE)
    left = len(visible(parse(done.stdout), setting))
    if setting is None or left == len(lines):
        return ok(name, detail), len(lines)
    hides = f"{detail}; {VISIBLE}={setting} leaves {left or 'none'} to be used"
    return (ok(name, hides) if left else warning(name, hides, f"unset {VISIBLE}")), left


def leases() -> Check:
    """Say who holds which GPU, and who waits."""
    name = "gpu leases"
    try:
        holders, waiters = overview()
    except MlstackError as error:
        return warning(name, error.problem, error.hint)
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


def temporary() -> Check:
    """See that there is a folder for temporary files: several libraries end without one."""
    name = "temporary files"
    try:
        folder = tempfile.gettempdir()
    except FileNotFoundError:  # it has tried every place
        return fail(name, "no folder for them can be written", "set TMPDIR to one that can")
    return ok(name, f"{shutil.disk_usage(folder).free / GIB:.1f} GiB free at {folder}")


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
    room = os.statvfs(folder)
    if room.f_files and room.f_favail < FEW_FILES:  # some file systems have no such limit
        said = f"{room.f_favail} more files can be made at {folder}"
        yield warning("disk files", said, "remove files that nothing needs; `df -i` counts them")
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
        refused = files.cannot_write(folder, error)
        return fail("disk speed", refused.problem, refused.hint)
    speed = SPEED_BYTES / 1e6 / seconds
    detail = f"{speed:,.0f} MB/s written and synced"
    if speed < 20:
        return warning("disk speed", detail, "keep the project on a local disk")
    return ok("disk speed", detail)


def port(host: str, number: int) -> Check:
    """See whether `serve` could listen."""
    name = f"port {number}"
    try:
        family, *_, address = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        said = f"`{host}` is no address of this machine: {error}"
        return warning(name, said, "set serve.host to 127.0.0.1, or to 0.0.0.0 for everybody")
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            said = f"{host}:{number}: {(error.strerror or str(error)).lower()}"
            return warning(name, said, _way_to_listen(error))
    return ok(name, f"free on {host}")


def _way_to_listen(error: OSError) -> str:
    if error.errno == errno.EADDRNOTAVAIL:
        return "set serve.host to an address of this machine, 0.0.0.0 for all"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "set serve.port to 1024 or more"
    return "mlstack serve --set serve.port=0 takes a free one"
