"""What a person is told to type must work when it is typed."""

import subprocess
from pathlib import Path

import pytest

from mlstack import shell


@pytest.mark.parametrize(
    "name", ["plain", "two words", "it's", 'say "x"', "-x", "--help", "-", "$HOME", "a;b", "~", "é"]
)
def test_a_path_is_one_word_for_a_shell_and_no_option(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()

    done = subprocess.run(
        ["sh", "-c", f"cd {shell.path(name)} && pwd -P"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.strip() == str(tmp_path.resolve() / name)


def test_a_plain_path_is_written_as_it_is() -> None:
    assert shell.path(Path("data/digits")) == "data/digits"
