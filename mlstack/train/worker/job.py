"""What a rank does, by the mode of its run."""

from pathlib import Path

from mlstack.config.schema import Config
from mlstack.records.run import RunSpec
from mlstack.train.worker.check import check
from mlstack.train.worker.fit import fit
from mlstack.train.worker.ranks import Job, Rank
from mlstack.train.worker.stop import StopRequest


def run(folder: Path, spec: RunSpec, stop: StopRequest, *, resume: bool) -> None:
    """Fit or check."""
    config = Config.model_validate(spec.config)
    job = Job(folder, spec, config, Rank.from_environment())
    if spec.mode == "check":
        check(job, stop)
    else:
        fit(job, stop, resume=resume)
