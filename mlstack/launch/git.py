"""What git says of the user's code, and the commits that snapshots make."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from mlstack import shell
from mlstack.errors import BusyError, MachineError, MlstackError, StepError

# What git says when the machine is in the way; it often names index.lock in the same breath.
MACHINE = (
    ("Out of diskspace", "the disk is full", "free some space, then type it again"),
    ("No space left on device", "the disk is full", "free some space, then type it again"),
    ("Read-only file system", "the disk is read-only", "choose a folder that can be written"),
    ("Permission denied", "permission denied", "check who owns .git, and its permissions"),
)

FOREIGN = re.compile(r"detected dubious ownership in repository at '(.+)'")

PLAIN_LOG = ("-c", "log.showSignature=false")  # else it prints signatures between the lines


def git(root: Path, *arguments: str) -> str:
    """Run git in a project and give what it printed.

    Raises:
        MachineError: git is not installed.
        StepError: git refused; its own words are the problem.
    """
    printed = git_bytes(root, *arguments).decode(errors="surrogateescape")
    return printed.replace("\r\n", "\n").replace("\r", "\n")


def git_bytes(root: Path, *arguments: str) -> bytes:
    """Run git in a project and give what it printed, byte for byte.

    Raises:
        MachineError: git is not installed.
        StepError: git refused; its own words are the problem.
    """
    try:
        done = subprocess.run(
            ["git", *PLAIN_LOG, *arguments],
            cwd=root,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},  # a question must not write the index
            capture_output=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise MachineError("git is not installed", hint="install git") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).decode(errors="surrogateescape")
        raise _refusal(_verb(arguments), said)
    return done.stdout


def is_repository(root: Path) -> bool:
    """Tell whether the project lies in a git repository.

    Raises:
        MachineError: it does, and git does not read it: it is somebody else's, say.
    """
    try:
        return git(root, "rev-parse", "--is-inside-work-tree").strip() == "true"
    except StepError:
        return False
    except MachineError:
        if shutil.which("git") is None:
            return False
        raise


def head(root: Path) -> str | None:
    """Give the commit that is checked out; None before the first one."""
    try:
        return git(root, "rev-parse", "--verify", "--quiet", "HEAD").strip()
    except StepError:
        return None


def is_on_branch(root: Path) -> bool:
    """Tell whether a branch follows the next commit; a detached HEAD has none."""
    try:
        return bool(git(root, "symbolic-ref", "--quiet", "HEAD"))
    except StepError:
        return False


# What `mlstack run` writes; no run reads it, so it does not make the code dirty.
WRITTEN_BY_RUN = ("dvc.yaml", "dvc.lock", "evaluation/metrics.json", "evaluation/*.csv")
NOT_CODE = tuple(f":(top,exclude,glob)**/{name}" for name in WRITTEN_BY_RUN)


def uncommitted(root: Path) -> list[str]:
    """List changed and new files that git does not ignore, DVC's pipeline files left out."""
    status = git(root, "status", "--porcelain", "--untracked-files=all", "--", *NOT_CODE)
    return [line[3:] for line in status.splitlines()]


# Whatever a person's own settings make of a diff, this one can be applied.
APPLICABLE = (
    *("--binary", "-U3", "--no-color", "--no-ext-diff", "--no-textconv", "--submodule=short"),
    *("--src-prefix=a/", "--dst-prefix=b/"),
)


def diff(root: Path) -> bytes:
    """Give the difference between the working tree and the commit, as `git apply` takes it."""
    if head(root) is None:
        return b""
    return git_bytes(
        root, "-c", "diff.relative=false", "diff", "HEAD", *APPLICABLE, "--", *NOT_CODE
    )


def commit(root: Path, paths: list[Path], message: str) -> str:
    """Commit just these paths, those that are gone as well, and give the new commit."""
    names = [str(p) for p in paths]
    if there := [str(p) for p in paths if p.exists()]:
        git(root, "add", "--", *there)
    if gone := [name for name in names if name not in there]:
        git(root, "rm", "--cached", "--quiet", "--ignore-unmatch", "--", *gone)
    git(root, *_identity(root), "commit", "--quiet", "-m", message, "--", *names)
    return git(root, "rev-parse", "HEAD").strip()


def last_change(root: Path, path: Path) -> str | None:
    """Give the newest commit that changed a file."""
    try:
        return git(root, "log", "-n", "1", "--format=%H", "--", str(path)).strip() or None
    except StepError:
        return None


def _refusal(verb: str, words: str) -> MlstackError:
    lines = words.splitlines() or ["failed"]
    fatal = [line for line in lines if line.startswith(("fatal:", "error:"))]
    for words_of_git, problem, hint in MACHINE:
        if words_of_git in words:
            return MachineError(f"git {verb}: {problem}", hint=hint)
    if (foreign := FOREIGN.search(words)) is not None:
        return MachineError(
            f"git {verb}: the repository `{foreign[1]}` belongs to somebody else",
            hint=f"type `git config --global --add safe.directory {shell.path(foreign[1])}`",
        )
    if "index.lock" in words:
        return BusyError(
            "another git is busy in this project",
            hint="wait for it; if none is running, remove .git/index.lock",
        )
    if "partial commit during a" in words:
        return StepError(
            "git is in the middle of a merge or cherry-pick, and commits nothing else now",
            hint="what was to be committed is staged: finish with `git commit`",
        )
    return StepError(f"git {verb}: {(fatal or lines)[-1]}")


def _verb(arguments: tuple[str, ...]) -> str:
    return arguments[2 * arguments.count("-c")]


def _identity(root: Path) -> list[str]:
    """Give the options that name an author, none when git knows one."""
    try:
        git(root, "var", "GIT_AUTHOR_IDENT")
        git(root, "var", "GIT_COMMITTER_IDENT")
    except StepError:
        return ["-c", "user.name=mlstack", "-c", "user.email=mlstack@localhost"]
    return []
