"""job.sh: what Slurm runs, readable, and fit to be submitted again by hand."""

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from mlstack.config.duration import seconds
from mlstack.config.train_sections import Slurm
from mlstack.records.run import SPEC, RunSpec

SCRIPT = "job.sh"
LOG = "slurm.log"
UNSEEN = 66  # exit code of a job whose node does not see the run's folder
GRACE_S = (60, 120)  # from the warning to the end of the time limit, at least and at most
FREE_PORT = 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])'

BODY = """
run={run}
python={python}

# This node does not see the folder of the run: nothing can be trained here.
[ -f "$run/{spec}" ] || exit {unseen}

# What torchrun would set, the same for every rank. Rank 0 runs on this node.
export MASTER_ADDR=$(hostname)
export MASTER_PORT=$("$python" -c {free_port})
export WORLD_SIZE=$SLURM_NTASKS ROLE_WORLD_SIZE=$SLURM_NTASKS
export LOCAL_WORLD_SIZE={local} GROUP_WORLD_SIZE=$SLURM_NNODES
export TORCHELASTIC_RUN_ID={id} TORCHELASTIC_MAX_RESTARTS=0
export TORCHELASTIC_RESTART_COUNT=${{SLURM_RESTART_COUNT:-0}}
export OMP_NUM_THREADS=${{OMP_NUM_THREADS:-${{SLURM_CPUS_PER_TASK:-1}}}}
export PYTHONUNBUFFERED=1 PYTHONFAULTHANDLER=1
[ -z "$SLURM_CPUS_PER_TASK" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK

# The watcher names the first rank that fails, has the run saved when it must leave, and asks for
# a requeue before the time limit. A run that has a checkpoint goes on from there.
exec "$python" -m mlstack.launch.slurm.job "$run" \\
  srun --output="${{run//%/%%}}/logs/rank-%t.log" --open-mode=append --wait=60 bash -c '
    export RANK=$SLURM_PROCID ROLE_RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID
    export GROUP_RANK=$SLURM_NODEID{gpus}
    exec "$0" -m {module} "$1" --resume' "$python" "$run"
"""
NO_GPUS = " CUDA_VISIBLE_DEVICES="


def render(run_folder: Path, spec: RunSpec, slurm: Slurm, module: str) -> str:
    """Write the script of a run.

    Args:
        run_folder: the run's folder, absolute, on a file system that all nodes share.
        spec: the run; its ranks are shared evenly by the nodes.
        slurm: what the cluster is asked for.
        module: what a rank runs.
    """
    options = "\n".join(f"#SBATCH {one}" for one in _options(run_folder, spec, slurm))
    body = BODY.format(
        run=shlex.quote(str(run_folder)),
        python=shlex.quote(sys.executable),
        spec=SPEC,
        unseen=UNSEEN,
        free_port=shlex.quote(FREE_PORT),
        local=spec.ranks // slurm.nodes,
        id=spec.id,
        gpus="" if spec.gpus else NO_GPUS,
        module=module,
    )
    head = f"# Run {spec.id}, by `mlstack train --on slurm`. `sbatch {SCRIPT}` goes on with it."
    return f"#!/bin/bash\n{head}\n{options}\n{body}"


def _options(run_folder: Path, spec: RunSpec, slurm: Slurm) -> Iterator[str]:
    local = spec.ranks // slurm.nodes
    yield f"--job-name=mlstack-{spec.id}"
    yield f"--chdir={shlex.quote(spec.root)}"
    yield f"--output={shlex.quote(_literal(run_folder / 'logs' / LOG))}"
    yield "--open-mode=append"
    yield f"--nodes={slurm.nodes}"
    yield f"--ntasks-per-node={local}"
    if spec.gpus:
        yield f"--gpus-per-node={local}"
    if slurm.partition:
        yield f"--partition={slurm.partition}"
    if slurm.account:
        yield f"--account={slurm.account}"
    if slurm.time:
        yield f"--time={_limit(round(seconds(slurm.time)))}"
    yield "--requeue"
    yield f"--signal=B:USR1@{_grace_s(slurm)}"
    yield from slurm.extra


def _grace_s(slurm: Slurm) -> int:
    """Give how long before the time limit the run is saved: a tenth of it, within bounds."""
    least, most = GRACE_S
    return max(least, min(most, round(seconds(slurm.time)) // 10)) if slurm.time else most


def _limit(limit_s: int) -> str:
    """Write seconds as Slurm reads them: days-hours:minutes:seconds."""
    minutes, second = divmod(limit_s, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours // 24}-{hours % 24:02}:{minute:02}:{second:02}"


def _literal(path: Path) -> str:
    """Write a path so that Slurm puts nothing in place of its percent signs."""
    return str(path).replace("%", "%%")
