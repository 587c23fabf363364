"""The newest package, replayed: raw files in, the same answers out."""

from pathlib import Path

import pytest
from conftest import mlstack


@pytest.mark.functionality
def test_the_package_is_whole_and_answers_its_golden_examples(package: Path) -> None:
    code, answer = mlstack("export", "verify", str(package))

    assert code == 0, answer.get("error", answer)
