"""Let DVC record in dvc.lock that a stage is up to date."""

import logging
import os
from contextlib import chdir
from pathlib import Path

from dvc.exceptions import DvcException, NotDvcRepoError
from dvc.lock import LockError
from dvc.repo import Repo

from mlstack.errors import BusyError, DataError, StepError


def record(root: Path, stage: str) -> None:
    """Write the hashes of a stage's dependencies, settings and output into dvc.lock.

    Raises:
        BusyError: another dvc holds the project.
        DataError: the project keeps nothing in DVC yet.
    """
    os.environ["DVC_NO_ANALYTICS"] = "1"
    for name in ("dvc", "dvc_data", "dvc_objects"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        with chdir(root), Repo(str(root)) as repo:  # DVC finds settings from where it is called
            repo.commit(stage, force=True)
    except NotDvcRepoError as error:
        raise DataError(
            "no data has been snapshotted here yet",
            hint='type `mlstack version snapshot -m "first data"`',
        ) from error
    except LockError as error:
        raise BusyError(
            "another dvc is busy in this project", hint="wait for it to end, then try again"
        ) from error
    except DvcException as error:
        raise StepError(f"dvc: {str(error).splitlines()[0]}") from error
