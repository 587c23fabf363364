"""A project that may only be read: a colleague's, or one that is mounted so."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Root may write anywhere, unless it gives that up.
PLAIN = (
    ("setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner", "--inh-caps=-all")
    if os.getuid() == 0
    else ()
)


@pytest.fixture
def locked(snapshotted: Path) -> Iterator[Path]:
    subprocess.run(["chmod", "-R", "a-w", snapshotted], check=True)
    yield snapshotted
    subprocess.run(["chmod", "-R", "u+w", snapshotted], check=True)


@pytest.mark.parametrize("words", [(), ("version", "diff"), ("version", "check")], ids=" ".join)
def test_what_only_looks_at_a_project_needs_no_leave_to_write(
    locked: Path, words: tuple[str, ...]
) -> None:
    done = subprocess.run(
        [*PLAIN, sys.executable, "-m", "mlstack", *words],
        cwd=locked,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "digits" in done.stdout
