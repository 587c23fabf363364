"""Whether somebody works on a run: a process that supervises it, or a job that waits or runs."""

from pathlib import Path

from mlstack.launch import supervise
from mlstack.launch.slurm import follow


def is_at_work(run_folder: Path) -> bool:
    """Tell whether a run is going on, here or on a cluster, or will when its turn has come."""
    return supervise.is_running(run_folder) or follow.job_of(run_folder) is not None
