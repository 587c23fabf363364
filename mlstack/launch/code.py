"""The version of the user's code: the commit, and everything that differs from it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from mlstack import files
from mlstack.launch import git
from mlstack.records.run import CodeVersion

DIFF = "code.diff"
LARGEST_BYTES = 1 << 20
OURS = (".mlstack", ".git", ".dvc", ".venv", "__pycache__", "models", "data", "node_modules")


@dataclass(frozen=True)
class Code:
    """The version and the text of the difference."""

    version: CodeVersion
    diff: str


def describe(root: Path) -> Code:
    """Describe the code of a project; without git there is only the hash of its Python files."""
    digest = python_sha256(root)
    if not git.is_repository(root):
        return Code(CodeVersion(dirty=True, python_sha256=digest), "")
    difference = git.diff(root) + "".join(_as_patch(root, name) for name in _untracked(root))
    version = CodeVersion(
        commit=git.head(root),
        dirty=bool(difference) or git.head(root) is None,
        diff_sha256=hashlib.sha256(difference.encode()).hexdigest() if difference else None,
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


def _as_patch(root: Path, name: str) -> str:
    """Show a file that git does not know as a patch that makes it; a large one by its hash."""
    path = root / name
    if path.is_dir():
        return f"# {name} is a repository of its own, at {git.head(path) or 'no commit'}\n"
    if not path.is_file():
        return f"# {name} is no file\n"  # a link to nowhere, a pipe
    content = path.read_bytes() if path.stat().st_size <= LARGEST_BYTES else b"\0"
    if b"\0" in content:
        return f"# new file {name}: sha256 {files.sha256(path)}\n"
    lines = content.decode(errors="replace").splitlines()
    body = "".join(f"+{line}\n" for line in lines)
    return (
        f"diff --git a/{name} b/{name}\nnew file mode 100644\n--- /dev/null\n+++ b/{name}\n"
        f"@@ -0,0 +1,{len(lines)} @@\n{body}"
        if lines
        else f"diff --git a/{name} b/{name}\nnew file mode 100644\n"
    )
