"""The version of the user's code: the commit, and everything that differs from it."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlstack import files
from mlstack.launch import git
from mlstack.records.run import CodeVersion

DIFF = "code.diff"
LARGEST_BYTES = 1 << 20
ODD_NAME = re.compile(r'["\\\x00-\x1f\x7f\ud800-\udfff]')  # git would quote it
OURS = (".mlstack", ".git", ".dvc", ".venv", "__pycache__", "models", "data", "node_modules")


@dataclass(frozen=True)
class Code:
    """The version and the difference, as `git apply` takes it."""

    version: CodeVersion
    diff: bytes


def describe(root: Path) -> Code:
    """Describe the code of a project; without git there is only the hash of its Python files."""
    digest = python_sha256(root)
    if not git.is_repository(root):
        return Code(CodeVersion(dirty=True, python_sha256=digest), b"")
    difference = git.diff(root) + b"".join(_new_files(root))
    version = CodeVersion(
        commit=git.head(root),
        dirty=bool(difference) or git.head(root) is None,
        diff_sha256=hashlib.sha256(difference).hexdigest() if difference else None,
        diff_file=DIFF if difference else None,
        python_sha256=digest,
    )
    return Code(version, difference)


def python_sha256(root: Path) -> str:
    """Hash the names and contents of the project's Python files."""
    digest = hashlib.sha256()
    for path in sorted(_python_files(root)):
        digest.update(f"{path.relative_to(root).as_posix()}\0{files.sha256(path)}\n".encode())
    return digest.hexdigest()


def _python_files(root: Path) -> list[Path]:
    if git.is_repository(root):
        listed = git.git(root, "ls-files", "-z", "-co", "--exclude-standard", "--", "*.py")
        return [root / name for name in set(listed.split("\0")) if (root / name).is_file()]
    return [p for p in root.rglob("*.py") if not set(p.relative_to(root).parts) & set(OURS)]


def _untracked(root: Path) -> list[str]:
    listed = git.git(root, "ls-files", "-z", "--others", "--exclude-standard", "--", *git.NOT_CODE)
    return sorted(name for name in listed.split("\0") if name)


def _new_files(root: Path) -> Iterator[bytes]:
    names = _untracked(root)
    top = git.git(root, "rev-parse", "--show-prefix").removesuffix("\n") if names else ""
    for name in names:
        yield _as_patch(root, name, top)


def _as_patch(root: Path, name: str, top: str) -> bytes:
    """Show a file that git does not know as a patch that makes it.

    One that is large, no text or of an odd name is noted by its hash.

    Args:
        root: the project.
        name: of the file, below it.
        top: the project's own folder below the top of the repository, to which patches refer.
    """
    path = root / name
    if path.is_dir():
        return _noted(f"{name} is a repository of its own, at {git.head(path) or 'no commit'}")
    if not path.is_file():
        return _noted(f"{name} is no file")  # a link to nowhere, a pipe
    content = path.read_bytes() if path.stat().st_size <= LARGEST_BYTES else b"\0"
    if b"\0" in content or ODD_NAME.search(name):
        return _noted(f"new file {name}: sha256 {files.sha256(path)}")
    placed = f"{top}{name}"
    head = f"diff --git a/{placed} b/{placed}\nnew file mode 100644\n".encode()
    if not content:
        return head
    *lines, last = content.split(b"\n")
    body = b"".join(b"+%b\n" % line for line in lines)
    body += b"+%b\n\\ No newline at end of file\n" % last if last else b""
    count = len(lines) + bool(last)
    return head + f"--- /dev/null\n+++ b/{placed}\n@@ -0,0 +1,{count} @@\n".encode() + body


def _noted(text: str) -> bytes:
    return f"# {text}\n".encode(errors="surrogateescape")
