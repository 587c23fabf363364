"""The list of a version's files, in DVC's cache."""

from pathlib import Path

import pytest

from mlstack.errors import DataError
from mlstack.version import listing


@pytest.mark.parametrize(
    ("name", "typed"), [("v1", "mlstack version pull v1"), ("", "mlstack version pull")]
)
def test_a_list_that_is_gone_says_what_to_type(tmp_path: Path, name: str, typed: str) -> None:
    with pytest.raises(DataError) as found:
        listing.read(tmp_path, "0589670f.dir", name)

    assert found.value.hint == f"type `{typed}`"
