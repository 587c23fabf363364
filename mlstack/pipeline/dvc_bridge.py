"""What stock DVC does for the pipeline: judge dvc.yaml, and record that a stage is up to date."""

import logging
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException, NotDvcRepoError
from dvc.lock import LockError
from dvc.repo import Repo
from dvc.utils.strictyaml import YAMLValidationError

from mlstack.errors import BusyError, ConfigError, DataError, StepError


def check(root: Path) -> None:
    """Have DVC read every stage, and look for outputs that belong to two of them.

    Raises:
        ConfigError: DVC refuses dvc.yaml; its own words are the problem.
    """
    with _opened(root) as repo:
        try:
            repo.index.check_graph()
        except DvcException as error:
            raise ConfigError(
                f"dvc refuses the pipeline: {_words(error)}",
                hint="mend your own stages in dvc.yaml; `dvc status` says it again",
                where=str(root / "dvc.yaml"),
            ) from error


def record(root: Path, stage: str) -> None:
    """Write the hashes of a stage's dependencies, settings and output into dvc.lock.

    Raises:
        BusyError: another dvc holds the project.
        DataError: the project keeps nothing in DVC yet.
    """
    with _opened(root) as repo:
        try:
            repo.commit(stage, force=True)
        except LockError:
            raise
        except DvcException as error:
            raise StepError(f"dvc: {str(error).splitlines()[0]}") from error


@contextmanager
def _opened(root: Path) -> Iterator[Any]:
    for name in ("dvc", "dvc_data", "dvc_objects"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        with chdir(root), Repo(str(root)) as repo:  # DVC finds settings from where it is called
            yield repo
    except NotDvcRepoError as error:
        raise DataError(
            "no data has been snapshotted here yet",
            hint='type `mlstack version snapshot -m "first data"`',
        ) from error
    except LockError as error:
        raise BusyError(
            "another dvc is busy in this project", hint="wait for it to end, then try again"
        ) from error


def _words(error: DvcException) -> str:
    """Give all that DVC says on one line, and what its reader of YAML found."""
    found = f"{error}: {error.exc}" if isinstance(error, YAMLValidationError) else f"{error}"
    return " ".join(found.split())
