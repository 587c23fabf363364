"""Run one rank: `python -m mlstack.train.worker RUN [--resume]`; RUN is its folder or run.json.

`torchrun --nnodes=2 ... -m mlstack.train.worker RUN/run.json` on each host runs it on several that
share the project's folder.
"""

import argparse
import faulthandler
import logging
import os
import signal
import sys
import traceback
import warnings
from contextlib import suppress
from pathlib import Path

from mlstack import allocator
from mlstack.errors import OK, BusyError, MachineError
from mlstack.files import lock
from mlstack.records.base import read
from mlstack.records.run import LOCK, SPEC, RunSpec
from mlstack.train.worker.failure import tell_failure
from mlstack.train.worker.stop import StopRequest

FAILED = 1
MAPPED_BYTES = 1 << 30
TORCHRUN = "TORCHELASTIC_USE_AGENT_STORE"  # it sets that; our own supervisor holds the lock itself


def main() -> int:
    """Do what the run's spec asks for; give the exit code."""
    parser = argparse.ArgumentParser(prog="mlstack.train.worker")
    parser.add_argument("run", type=Path)
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    # every step asks for what the one before has freed: activations, gradients, batches
    allocator.keep(spare_bytes=allocator.MOST, mapped_bytes=MAPPED_BYTES)
    faulthandler.register(signal.SIGUSR2, all_threads=True)  # the supervisor asks: where is it?
    stop = StopRequest()
    stop.install()  # before the long imports, so that a signal then is not lost
    given: Path = arguments.run.resolve()
    folder = given.parent if given.is_file() else given
    spec = read(folder / SPEC, RunSpec)
    rank = int(os.environ.get("RANK", "0"))
    if TORCHRUN in os.environ and rank == 0:
        try:
            with lock(folder / LOCK, f"run `{spec.id}`"):
                return _train(folder, spec, stop, rank, resume=arguments.resume)
        except BusyError as error:  # whoever is at it goes on, and hears nothing of this
            sys.stderr.write(f"error: {error.problem}\n")
            return error.exit_code
    return _train(folder, spec, stop, rank, resume=arguments.resume)


def _train(folder: Path, spec: RunSpec, stop: StopRequest, rank: int, *, resume: bool) -> int:
    try:
        _run(folder, spec, stop, resume=resume)
    except BaseException as error:  # also a sys.exit in the user's code: it names its line
        with suppress(OSError, ValueError):  # of a log on a full disk, or that was closed
            traceback.print_exc()
        try:
            tell_failure(folder, spec.id, rank, error, Path(spec.root))
        except MachineError as full:
            return full.exit_code
        return FAILED
    return OK


def _run(folder: Path, spec: RunSpec, stop: StopRequest, *, resume: bool) -> None:
    # Threads that spin while they wait cost twice the time when others use the machine too.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        from mlstack.train.worker.engine import job  # noqa: PLC0415  seconds; may be missing
    except ModuleNotFoundError as error:
        raise MachineError(
            f"training needs `{error.name}`, which is not installed",
            hint="pip install 'mlstack[train]'",
        ) from error
    except (ImportError, OSError) as error:  # a shared library that is gone, or of another version
        raise MachineError(
            f"the libraries of training cannot be loaded: {error}", hint="type `mlstack doctor`"
        ) from error
    _quieten()
    job.run(folder, spec, stop, resume=resume)


def _quieten() -> None:
    """Keep the library's advice to people who call it out of the log; errors stay."""
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for module in ("pytorch_lightning", "lightning_fabric", "torch"):
        warnings.filterwarnings("ignore", module=rf"{module}(\..*)?")


if __name__ == "__main__":
    # os._exit would lose the log; sys.exit runs the process group's own clean-up.
    sys.exit(main())
