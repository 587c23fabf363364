"""Data that is in no snapshot: what keeps it from being one, and what to type."""

import shutil
from pathlib import Path

import pytest

from mlstack.config import load
from mlstack.errors import DataError
from mlstack.launch import dataset


def refusal(root: Path) -> DataError:
    project = load(root / "mlstack.yaml")
    with pytest.raises(DataError) as refused:
        dataset.resolve(project, allow_dirty=False)
    return refused.value


def test_changed_data_is_to_be_snapshotted(project) -> None:
    (project / "data/digits/images/0000.png").write_bytes(b"x")

    error = refusal(project)

    assert error.hint == "`mlstack version snapshot -m MESSAGE`, or add --allow-dirty"


@pytest.mark.parametrize("changes", [False, True])
def test_without_a_repository_one_is_to_be_made_first(project, changes: bool) -> None:
    shutil.rmtree(project / ".git")
    if changes:
        (project / "data/digits/images/0000.png").write_bytes(b"x")

    error = refusal(project)

    assert error.hint.startswith("type `git init`, then `mlstack version snapshot -m MESSAGE`")


def test_without_git_it_is_to_be_installed_first(project, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")

    error = refusal(project)

    assert "git, which keeps the versions, is not installed" in error.problem
    assert error.hint.startswith("install git")


@pytest.mark.parametrize("link", ["data/digits", "data"])
def test_a_link_to_a_folder_is_named_and_the_folder_to_be_put_there(
    project, tmp_path: Path, link: str
) -> None:
    (project / link).rename(tmp_path / "elsewhere")
    (project / link).symlink_to(tmp_path / "elsewhere")
    (project / "data/digits/images/0000.png").write_bytes(b"x")
    (project / "data/digits.dvc").unlink(missing_ok=True)
    (tmp_path / "elsewhere" / "digits.dvc").unlink(missing_ok=True)

    error = refusal(project)

    assert f"`{link}` is a link, and DVC does not follow links to folders" in error.problem
    assert error.hint.startswith(f"put the folder itself at `{link}`")
    assert dataset.resolve(load(project / "mlstack.yaml"), allow_dirty=True).files == 301
