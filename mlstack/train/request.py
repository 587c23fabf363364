"""What was typed after `mlstack train`: whether it goes together, and what it asks for."""

from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML

from mlstack.config import Project
from mlstack.errors import ConfigError
from mlstack.launch import gpus

GPUS = {"ray": "train.ray.gpus", "slurm": "train.slurm.gpus_per_node"}  # of a cluster


@dataclass(frozen=True)
class Request:
    """What was typed after `mlstack train`."""

    run: str | None = None
    gpus: str | None = None
    ranks: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    check: bool | None = None  # alone, never, or before a long run
    resume: bool = False
    from_run: str | None = None
    allow_dirty: bool = False
    on: str = "local"
    wait: bool = False  # for GPUs that others use


def refuse_contradictions(request: Request, sets: tuple[str, ...]) -> None:
    """Refuse what does not go together, before anything else is looked at."""
    if request.run is not None and not request.resume:
        raise ConfigError(
            f"`{request.run}` is not a subcommand of train; a run is named after --resume",
            hint="type `mlstack train --help`",
        )
    if request.on not in ("local", "ray", "slurm"):
        raise ConfigError(f"--on: `{request.on}` is none of local, ray, slurm")
    if request.on in GPUS and request.gpus is not None:
        wanted = request.gpus if request.gpus.isdecimal() else "N"
        raise ConfigError(
            "--gpus counts those of this machine", hint=f"--set {GPUS[request.on]}={wanted}"
        )
    fixed = {
        "--check": request.check is not None,
        "--from-run": request.from_run is not None,
        "--gpus": request.gpus is not None,
        "--ranks": request.ranks is not None,
        "--epochs": request.epochs is not None,
        "--batch-size": request.batch_size is not None,
        "--set": bool(sets),
    }
    if request.resume and any(fixed.values()):
        names = ", ".join(name for name, given in fixed.items() if given)
        raise ConfigError(
            f"--resume goes on with a run as it was planned; it cannot change by {names}",
            hint="--from-run RUN starts a new run from its settings",
        )


def wanted_gpus(project: Project, request: Request) -> gpus.Wanted:
    """Say how many GPUs, from the flags or the config; --ranks means the CPU."""
    if request.gpus is None:
        return 0 if request.ranks is not None else project.config.train.gpus
    if request.gpus == "auto":
        return "auto"
    if not request.gpus.isdecimal():
        raise ConfigError(f"--gpus: `{request.gpus}` is neither a number nor `auto`")
    return int(request.gpus)


def overrides_of(request: Request, sets: tuple[str, ...]) -> dict[str, Any]:
    """Turn flags into settings; --set too when the base is not mlstack.yaml but a run."""
    found: dict[str, Any] = {}
    if request.from_run is not None:
        for item in sets:
            key, _, value = item.partition("=")
            found[key] = YAML(typ="safe", pure=True).load(value)
    flags = {
        "train.ranks": request.ranks,
        "train.epochs": request.epochs,
        "train.batch_size": request.batch_size,
    }
    return found | {key: flag for key, flag in flags.items() if flag is not None}
