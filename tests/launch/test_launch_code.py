"""The version of the user's code, whatever lies in the folder."""

import subprocess
from pathlib import Path

from mlstack.launch import code


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True)


def test_a_repository_and_a_broken_link_inside_are_named_in_the_difference(project: Path) -> None:
    inner = project / "borrowed"
    inner.mkdir()
    git(inner, "init", "--quiet")
    (project / "empty").mkdir()
    git(project / "empty", "init", "--quiet")
    (inner / "a.py").write_text("1\n")
    git(inner, "add", "a.py")
    git(inner, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "one")
    (project / "gone").symlink_to("nowhere")

    found = code.describe(project)

    head = next((inner / ".git" / "refs" / "heads").iterdir()).read_text().strip()
    assert f"# borrowed/ is a repository of its own, at {head}\n".encode() in found.diff
    assert b"# gone is no file\n" in found.diff
    assert found.version.dirty
