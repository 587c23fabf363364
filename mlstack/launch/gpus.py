"""The GPUs of this machine, and what uses them."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from importlib import metadata
from typing import Literal, Protocol

from mlstack.errors import MachineError

Wanted = Literal["auto"] | int | list[int]

QUERY = "index,uuid,name,memory.total"
USES = "gpu_uuid,pid,used_memory,process_name"
MEMORY = "uuid,memory.used"
# What a process may hold without being in the way, and what a screen may.
SMALL_MIB, SCREEN_MIB = 256, 2048


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU; `index` is that of nvidia-smi."""

    index: int
    uuid: str
    name: str
    memory_mib: int = 0


@dataclass(frozen=True)
class Use:
    """Memory of a GPU that is taken; by `pid`, or by nobody that can be named (0)."""

    uuid: str
    memory_mib: int
    pid: int = 0
    name: str = ""

    @property
    def is_in_the_way(self) -> bool:
        """Tell whether a training would be disturbed."""
        return self.memory_mib > (SMALL_MIB if self.pid else SCREEN_MIB)

    def __str__(self) -> str:
        who = f"{self.name} (process {self.pid})" if self.pid else "something unnamed"
        return f"{who} with {self.memory_mib} MiB and no lease"


class Machine(Protocol):
    """Where GPUs are found."""

    def find(self) -> list[Gpu]:
        """List the GPUs that may be used."""

    def lack(self) -> str:
        """Say what is missing when none is found."""

    def uses(self) -> list["Use"]:
        """List what uses the GPUs, whether or not it holds a lease."""


class Nvidia:
    """The GPUs that the driver shows, torch can use and CUDA_VISIBLE_DEVICES allows."""

    def find(self) -> list[Gpu]:
        """List the GPUs; none without a driver, or when torch is a build for the CPU."""
        if shutil.which("nvidia-smi") is None or _torch_for_cpu():
            return []
        found = parse(_ask("gpu", QUERY))
        return visible(found, os.environ.get("CUDA_VISIBLE_DEVICES"))

    def uses(self) -> list[Use]:
        """List the processes that compute, and what memory is taken beside them."""
        return parse_uses(_ask("compute-apps", USES), _ask("gpu", MEMORY))

    def lack(self) -> str:
        """Say what is missing when none is found."""
        if shutil.which("nvidia-smi") is None:
            return "the NVIDIA driver is not installed (there is no `nvidia-smi`)"
        if build := _torch_for_cpu():
            return f"torch {build} is a build for the CPU; install the one for CUDA"
        if os.environ.get("CUDA_VISIBLE_DEVICES") is not None:
            return "CUDA_VISIBLE_DEVICES hides them, or `nvidia-smi` lists none"
        return "`nvidia-smi` lists none; is the driver running?"


class FakeGpus:
    """A machine with these GPUs, for tests; `used` is what uses them."""

    def __init__(self, *names: str) -> None:
        self._gpus = [Gpu(i, f"GPU-{i}", name) for i, name in enumerate(names)]
        self.used: list[Use] = []

    def find(self) -> list[Gpu]:
        """List the GPUs."""
        return self._gpus

    def lack(self) -> str:
        """Say what is missing when none is found."""
        return "this is a fake"

    def uses(self) -> list[Use]:
        """List what uses them."""
        return self.used


def _torch_for_cpu() -> str:
    try:
        build = metadata.version("torch")
    except metadata.PackageNotFoundError:
        return ""
    return build if build.endswith("+cpu") else ""


def _ask(kind: str, query: str) -> str:
    """Ask nvidia-smi; nothing when it fails."""
    words = ["nvidia-smi", f"--query-{kind}={query}", "--format=csv,noheader,nounits"]
    try:
        asked = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout if asked.returncode == 0 else ""


def parse(listing: str) -> list[Gpu]:
    """Read what `nvidia-smi --query-gpu` printed."""
    rows = [line.split(", ") for line in listing.splitlines() if line.count(", ") >= 3]
    return [
        Gpu(int(index), uuid, name, int(memory) if memory.strip().isdigit() else 0)
        for index, uuid, name, memory in (row[:4] for row in rows)
        if index.strip().isdigit()
    ]


def parse_uses(processes: str, memory: str) -> list[Use]:
    """Read what `nvidia-smi --query-compute-apps` and `--query-gpu` printed.

    In a container the processes are not listed, or not with their memory.
    """
    rows = [line.split(", ", 3) for line in processes.splitlines()]
    named = [
        Use(uuid, _mib(mib), int(pid), name)
        for uuid, pid, mib, name in (row for row in rows if len(row) == 4)
        if pid.isdigit()
    ]
    taken = [line.split(", ") for line in memory.splitlines() if line.count(", ") == 1]
    rest = [
        Use(uuid, max(0, _mib(mib) - sum(use.memory_mib for use in named if use.uuid == uuid)))
        for uuid, mib in taken
    ]
    return named + rest


def _mib(text: str) -> int:
    return int(text) if text.strip().isdigit() else 0


def visible(gpus: list[Gpu], setting: str | None) -> list[Gpu]:
    """Keep the GPUs that CUDA_VISIBLE_DEVICES names; all without it.

    As CUDA reads it: an index, a uuid or how a uuid begins; what follows a name that none has
    (-1, say) is hidden.
    """
    if setting is None:
        return gpus
    seen: list[Gpu] = []
    for name in (one.strip() for one in setting.split(",")):
        named = [gpu for gpu in gpus if _is_called(gpu, name)]
        if len(named) != 1:
            break
        seen += named
    return [gpu for gpu in gpus if gpu in seen]


def _is_called(gpu: Gpu, name: str) -> bool:
    return name == str(gpu.index) or (name.startswith("GPU-") and gpu.uuid.startswith(name))


def candidates(wanted: Wanted, machine: Machine) -> list[Gpu]:
    """List the GPUs that would do, whoever uses them.

    Raises:
        MachineError: this machine has fewer than are wanted.
    """
    found = machine.find()
    if isinstance(wanted, list):
        missing = [i for i in wanted if i not in [g.index for g in found]]
        if missing:
            raise _too_few(f"GPU {', '.join(map(str, missing))} was asked for", found, machine)
        return [g for g in found if g.index in wanted]
    if isinstance(wanted, int) and wanted > len(found):
        asked = f"{wanted} GPU{'s were' if wanted > 1 else ' was'} asked for"
        raise _too_few(asked, found, machine)
    return found


def _too_few(asked: str, found: list[Gpu], machine: Machine) -> MachineError:
    if not found:
        return MachineError(
            f"{asked} and none can be used: {machine.lack()}",
            hint="train on the CPU with --gpus 0, or type `mlstack doctor`",
        )
    names = ", ".join(f"{g.index}: {g.name}" for g in found)
    return MachineError(
        f"{asked} and this machine has {len(found)} ({names})",
        hint=f"--gpus {len(found)} takes those",
    )
