"""What a rank does, by the mode of its run."""

from pathlib import Path

from mlstack.config.schema import Config
from mlstack.errors import ConfigError
from mlstack.plurals import counted
from mlstack.records.run import RunSpec
from mlstack.train.worker.check import check
from mlstack.train.worker.fit import fit
from mlstack.train.worker.ranks import Job, Rank
from mlstack.train.worker.stop import StopRequest


def run(folder: Path, spec: RunSpec, stop: StopRequest, *, resume: bool) -> None:
    """Fit or check.

    Raises:
        ConfigError: somebody else than mlstack has started more ranks, or fewer, than the run has.
    """
    config = Config.model_validate(spec.config)
    job = Job(folder, spec, config, Rank.from_environment())
    if job.rank.count != spec.ranks:
        raise ConfigError(
            f"run `{spec.id}` has {counted(spec.ranks, 'rank')}, and {job.rank.count} were started",
            hint=f"start {spec.ranks}; `mlstack train --from-run {spec.id}` begins with others",
        )
    if spec.mode == "check":
        check(job, stop)
    else:
        fit(job, stop, resume=resume)
