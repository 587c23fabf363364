"""What is live, changed by hand."""

from pathlib import Path

import pytest

from mlstack.errors import DataError
from mlstack.records.package import read_live


@pytest.mark.parametrize("percent", [-5, 2000, "null"])
def test_a_share_of_the_requests_that_is_none_is_refused(tmp_path: Path, percent: object) -> None:
    path = tmp_path / "live.json"
    path.write_text(f'{{"kind": "model.live", "v": 1, "live": 1, "canary_percent": {percent}}}')

    with pytest.raises(DataError) as raised:
        read_live(path)

    assert "canary_percent" in raised.value.problem
    assert "mlstack serve promote NUMBER" in raised.value.hint
