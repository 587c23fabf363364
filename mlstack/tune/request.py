"""What was typed after `mlstack tune`: whether it goes together, and what it asks for."""

from dataclasses import dataclass

from mlstack.config import Project
from mlstack.errors import ConfigError, MachineError
from mlstack.launch import gpus
from mlstack.launch.gpus import Gpu


@dataclass(frozen=True)
class Request:
    """What was typed after `mlstack tune`."""

    study: str | None = None
    trials: int | None = None
    gpus: str | None = None
    resume: bool = False
    allow_dirty: bool = False
    on: str = "local"
    wait: bool = False  # for GPUs that others use


def refuse_contradictions(request: Request) -> None:
    """Refuse what does not go together, before anything else is looked at."""
    if request.study is not None and not request.resume:
        raise ConfigError(
            f"`{request.study}` is not a subcommand of tune; a study is named after --resume",
            hint="type `mlstack tune --help`",
        )
    if request.on != "local":
        if request.on != "ray":
            raise ConfigError(f"--on: `{request.on}` is none of local, ray")
        raise MachineError(
            "tuning on ray is not built yet; see docs/roadmap.md",
            hint="leave --on away to tune on this machine",
        )


def wanted_gpus(project: Project, request: Request) -> gpus.Wanted:
    """Say how many GPUs all trials share, from the flag or the config."""
    if project.config.tune.gpus_per_trial == 0:
        return 0
    if request.gpus is None:
        return project.config.train.gpus
    if request.gpus == "auto":
        return "auto"
    if not request.gpus.isdecimal():
        raise ConfigError(f"--gpus: `{request.gpus}` is neither a number nor `auto`")
    return int(request.gpus)


def slots(leased: list[Gpu], each: int) -> list[tuple[Gpu, ...]]:
    """Share the GPUs out: one slot a trial that runs at the same time; without any, the CPU.

    Raises:
        MachineError: a trial needs more than there are.
    """
    if not leased or not each:
        return [()]
    if len(leased) < each:
        raise MachineError(
            f"a trial needs {each} GPUs and there are {len(leased)}",
            hint="write a smaller tune.gpus_per_trial",
        )
    return [tuple(leased[at : at + each]) for at in range(0, len(leased) - each + 1, each)]
