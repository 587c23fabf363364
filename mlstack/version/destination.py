"""Where `versioning.remote` leads: a URL, a folder, or a remote of DVC's by its name."""

from pathlib import Path

from mlstack.config import Project
from mlstack.errors import BusyError, ConfigError
from mlstack.records.dvc_config import read_config


def remote_of(project: Project) -> str | None:
    """Give the remote's URL or absolute folder; None leaves it to DVC's own settings.

    Raises:
        ConfigError: it is empty, a file, or lies where the data does.
        BusyError: the folder above it is not there.
    """
    remote = project.config.versioning.remote
    if remote is None or "://" in remote:
        return remote
    if not remote.strip():
        raise ConfigError(
            "versioning.remote is empty", hint="name a folder or a URL, or leave it out"
        )
    folder = (project.root / Path(remote).expanduser()).resolve()
    if not folder.exists() and (url := _url_of(project.root, remote)):
        return url
    _refuse_own(project, remote, folder)
    if not folder.parent.is_dir():
        raise BusyError(
            f"the remote `{remote}` cannot be reached: there is no `{folder.parent}`",
            hint="is the disk mounted? Then try again",
        )
    if folder.is_file():
        raise ConfigError(f"versioning.remote: `{remote}` is a file", hint="name a folder")
    return str(folder)


def _url_of(root: Path, name: str) -> str | None:
    """Give the URL of one of DVC's remotes."""
    config = read_config(root)
    return config.remotes.get(name.lower(), {}).get("url") if config else None


def _refuse_own(project: Project, remote: str, folder: Path) -> None:
    """Refuse a remote that would be data of the next version, or lie among the code."""
    root = project.root.resolve()
    if folder == root or folder.is_relative_to((root / project.config.data.folder).resolve()):
        raise ConfigError(
            f"versioning.remote: `{remote}` is a folder of the project itself",
            hint="name one elsewhere, best on another disk",
        )
