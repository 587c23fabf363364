"""Everything that stock DVC does for mlstack: the only `import dvc`."""

import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

from dvc.config import ConfigError as SettingsError
from dvc.config import NoRemoteError
from dvc.exceptions import (
    CheckoutError,
    DvcException,
    FileTransferError,
    InitError,
    NotDvcRepoError,
)
from dvc.fs import RemoteMissingDepsError
from dvc.lock import LockError
from dvc.repo import Repo

from mlstack.errors import BusyError, ConfigError, DataError, MachineError, StepError
from mlstack.records.dvc_config import read_config
from mlstack.version.history import nothing_yet

REMOTE = "mlstack"  # name that `versioning.remote` gets inside DVC


def initialise(root: Path, *, subdir: bool) -> None:
    """Make the project a DVC repository that reports nothing to anybody."""
    with (
        _translated(),
        Repo.init(str(root), subdir=subdir) as repo,
        repo.config.edit("repo") as config,
    ):
        config["core"]["analytics"] = False
        config["core"]["check_update"] = False


def add(root: Path, folder: Path) -> None:
    """Copy a folder into DVC's cache and write its pointer."""
    with _opened(root) as repo:
        repo.add([str(folder)])


def checkout(root: Path, pointer: Path) -> None:
    """Make a folder hold exactly what its pointer says, from the cache."""
    with _opened(root) as repo:
        repo.checkout(targets=[str(pointer)], force=True)


def push(root: Path, pointer: Path, remote: str | None, *, everything: bool) -> int:
    """Copy objects that a remote lacks to it; give their number."""
    with _opened(root, remote) as repo, _remote_errors(remote):
        count: int = repo.push(targets=[_target(root, pointer)], all_commits=everything)
    return count


def fetch(root: Path, pointer: Path, remote: str | None, revision: str | None) -> int:
    """Copy the objects of one version that the cache lacks from a remote; give their number."""
    with _opened(root, remote) as repo, _remote_errors(remote):
        revisions = {"revs": [revision], "workspace": False} if revision else {}
        count: int = repo.fetch(targets=[_target(root, pointer)], **revisions)
    return count


def _target(root: Path, pointer: Path) -> str:
    """Name a pointer as DVC knows it in every commit: an absolute path is only of the folder."""
    return pointer.relative_to(root).as_posix()


def no_remote(known: Iterable[str]) -> ConfigError:
    """Give the error of a project that has nowhere to push to or pull from.

    Args:
        known: names of DVC's remotes, of which none is the default.
    """
    if names := list(known):
        return ConfigError(
            f"DVC has no default among its remotes {', '.join(names)}",
            hint=f"type `dvc remote default {names[0]}`, or set versioning.remote to one of them",
        )
    return ConfigError(
        "no remote is configured",
        hint="write `versioning: {remote: FOLDER_OR_URL}` in mlstack.yaml; what is there comes by "
        "`mlstack version push`, typed where the data lies",
    )


def has_remote(root: Path) -> bool:
    """Tell whether DVC's own settings name a remote."""
    with _opened(root) as repo:
        return bool(repo.config["core"].get("remote") or repo.config.get("remote"))


def cache_folder(root: Path) -> Path:
    """Give the folder of DVC's cache whose `xx/yyy` are objects by their MD5."""
    with _opened(root) as repo:
        return Path(repo.cache.local.path)


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Keep stock DVC from changing the repository meanwhile.

    Raises:
        BusyError: a dvc is at work.
    """
    with _opened(root) as repo, repo.lock:
        yield


@contextmanager
def _opened(root: Path, remote: str | None = None) -> Iterator[Any]:
    """Open the repository; DVC's errors leave as ours."""
    with _translated():
        known = read_config(root) if remote else None  # an endpoint, keys, ...
        options = known.options_of(remote) if known else {"url": remote or ""}
        settings = {"remote": {REMOTE: options}, "core": {"remote": REMOTE}}
        # DVC resolves some paths from where it is called, even when it is told the project.
        with chdir(root), Repo(str(root), config=settings if remote else None) as repo:
            try:
                yield repo
            except NoRemoteError as error:
                raise no_remote(repo.config["remote"]) from error


@contextmanager
def _translated() -> Iterator[None]:
    _be_quiet()
    try:
        yield
    except NotDvcRepoError as error:
        raise nothing_yet() from error
    except LockError as error:
        raise BusyError(
            "another dvc is busy in this project", hint="wait for it to end, then try again"
        ) from error
    except CheckoutError as error:
        raise DataError(
            "files of this version are neither in the cache nor in the folder",
            hint="type `mlstack version pull`",
        ) from error
    except SettingsError as error:
        raise ConfigError(
            f"dvc: {_first_line(error)}", hint="look at versioning.remote and .dvc/config"
        ) from error
    except InitError as error:
        raise ConfigError(f"dvc: {_first_line(error)}") from error
    except DvcException as error:
        raise StepError(f"dvc: {_first_line(error)}", hint="type it again with --debug") from error


@contextmanager
def _remote_errors(remote: str | None) -> Iterator[None]:
    try:
        yield
    except (RemoteMissingDepsError, ImportError) as error:
        kind = (remote or "").partition("://")[0]
        raise MachineError(
            f"dvc lacks a package for `{remote or 'its remote'}`: {_first_line(error)}",
            hint=f"type `{_install(kind)}`" if kind else "",
        ) from error
    except _refusals() as error:
        raise ConfigError(
            f"the remote `{remote or 'of DVC'}` cannot be used: {_first_line(error)}",
            hint="look at its keys: in the environment, in ~/.aws, or type `dvc remote modify`",
        ) from error
    except (FileTransferError, OSError) as error:
        raise BusyError(
            f"the remote `{remote or 'of DVC'}` cannot be reached: {_first_line(error)}",
            hint="is it there? Then try again; what was copied stays copied",
        ) from error


def _refusals() -> tuple[type[Exception], ...]:
    """Name the errors about keys, botocore's too where it was loaded."""
    module = sys.modules.get("botocore.exceptions")
    names = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound")
    return (PermissionError, *(getattr(module, name) for name in names if module))


def _install(kind: str) -> str:
    return "pip install 'mlstack[s3]'" if kind == "s3" else f"pip install 'dvc[{kind}]'"


def _first_line(error: BaseException) -> str:
    lines: Iterable[str] = str(error).splitlines()
    return next(iter(lines), type(error).__name__)


def _be_quiet() -> None:
    for name in ("dvc", "dvc_data", "dvc_objects"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
