"""What a run made of the machine: `system.jsonl` beside its events.

The supervisor appends a `Used` every few seconds, rank 0 a `Speed` after each epoch. A file of its
own, because lists of runs read the events and need none of this.
"""

from pathlib import Path

import msgspec

from mlstack import files
from mlstack.records.base import Record

SYSTEM = "system.jsonl"
JOULES_PER_KWH = 3_600_000


class GpuUse(Record, frozen=True, kw_only=True, tag="gpu.use"):
    """One GPU at one moment, whoever uses it."""

    index: int
    busy: float  # share of the last moment in which it worked, 0 to 1
    memory_bytes: int
    watts: float | None = None  # null: the driver does not say


class Used(Record, frozen=True, kw_only=True, tag="run.used"):
    """What the ranks and the processes that they started use, all together."""

    run: str
    at: float  # seconds since the epoch
    cpu_cores: float  # mean since the record before; 1.0 is one core at work
    machine_cpu: float  # of all cores of the machine by anybody, 0 to 1
    memory_bytes: int  # resident; pages that processes share count for each
    free_bytes: int  # memory that is still to be had on the machine
    gpus: list[GpuUse] = msgspec.field(default_factory=list)  # those of the run
    seconds: float = 0.0  # since the record before
    processors_j: float | None = None  # joules of all processors since then, by anybody


class Speed(Record, frozen=True, kw_only=True, tag="run.speed"):
    """How fast an epoch was trained, val left out."""

    run: str
    at: float
    epoch: int  # counts from 1
    step: int
    examples_per_s: float  # of all ranks together
    loader_wait: float | None = None  # share of the time; null where Lightning does not say
    gpu_memory_bytes: int | None = None  # most that torch held on rank 0's GPU


class Energy(Record, frozen=True, kw_only=True, tag="run.energy"):
    """What training took, as far as there are meters; null where there is none."""

    core_seconds: float  # of CPU, by the run alone
    processors_j: float | None = None  # of all processors, whoever used them beside the run
    gpus_j: float | None = None

    def told(self) -> list[str]:
        """Say each part, in core-seconds and kWh."""
        parts = {
            "the processors, with whatever else ran on them": self.processors_j,
            "the GPUs": self.gpus_j,
        }
        metered = [f"{j / JOULES_PER_KWH:.3g} kWh of {what}" for what, j in parts.items() if j]
        return [
            f"{self.core_seconds:,.0f} core-seconds of CPU",
            *(metered or ["energy was not measured: no meter could be read"]),
        ]


def energy(used: list[Used]) -> Energy:
    """Add up a run's looks; what lies before the first and after the last is not in it."""
    metered = [one.processors_j for one in used if one.processors_j is not None]
    watts = [one.seconds * gpu.watts for one in used for gpu in one.gpus if gpu.watts is not None]
    return Energy(
        core_seconds=sum(one.cpu_cores * one.seconds for one in used),
        processors_j=sum(metered) if metered else None,
        gpus_j=sum(watts) if watts else None,
    )


_DECODER: msgspec.json.Decoder[Used | Speed] = msgspec.json.Decoder(Used | Speed)


def append_system(run_folder: Path, record: Used | Speed) -> None:
    """Append one record, whole."""
    files.append_line(run_folder / SYSTEM, msgspec.json.encode(record))


def read_system(run_folder: Path) -> list[Used | Speed]:
    """Read what is there; a line that a crash or a full disk cut off is left out."""
    try:
        content = (run_folder / SYSTEM).read_bytes()
    except FileNotFoundError:
        return []
    found = []
    for line in content.splitlines():
        try:
            found.append(_DECODER.decode(line))
        except msgspec.DecodeError:
            continue
    return found
