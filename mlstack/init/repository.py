"""Put a new project under git and DVC, with stock commands of both."""

import signal
import subprocess
import sys
from pathlib import Path

from mlstack import files
from mlstack.errors import StepError
from mlstack.launch import merging
from mlstack.launch.git import git
from mlstack.launch.tether import tied

# DVC neither reports nor looks for updates, and leaves the git index alone.
DVC_CONFIG = "[core]\n    analytics = false\n    check_update = false\n    autostage = false\n"
FALLBACK_IDENTITY = ("-c", "user.name=mlstack", "-c", "user.email=mlstack@localhost")


def start(folder: Path, source: str, message: str) -> None:
    """Make both repositories, snapshot the data, commit everything.

    Raises:
        StepError: git or DVC refused; its own words are the problem.
    """
    git(folder, "init", "--quiet", "--initial-branch", "main")
    _dvc(folder, "init", "--quiet")
    files.write_text(folder / ".dvc" / "config", DVC_CONFIG)
    _dvc(folder, "add", "--quiet", source)
    merging.register(folder)
    merging.write_attributes(folder)
    git(folder, "add", "--all")
    git(folder, *_identity(folder), "commit", "--quiet", "--no-gpg-sign", "-m", message)


def _identity(folder: Path) -> tuple[str, ...]:
    """Give options that name an author where git knows none."""
    try:
        git(folder, "var", "GIT_AUTHOR_IDENT")
        git(folder, "config", "user.email")
    except StepError:
        return FALLBACK_IDENTITY
    return ()


def _dvc(folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        tied(signal.SIGKILL, [sys.executable, "-m", "dvc", *arguments]),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise StepError(f"dvc {arguments[0]}: {words[-1] if words else 'failed'}")
