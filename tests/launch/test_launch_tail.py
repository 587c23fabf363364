"""New events of a run, as they come."""

from pathlib import Path

import pytest

from mlstack.errors import StepError
from mlstack.launch.tail import Tail
from mlstack.records.run import EVENTS, Started, append_event


def test_a_run_whose_folder_is_removed_says_so_and_not_that_it_is_damaged(tmp_path: Path) -> None:
    append_event(tmp_path, Started(run="first", at=1.0))
    tail = Tail(tmp_path)
    append_event(tmp_path, Started(run="second", at=2.0))
    assert [one.run for one in tail.new()] == ["second"]
    (tmp_path / EVENTS).unlink()
    assert tail.new() == []
    append_event(tmp_path, Started(run="third", at=3.0))

    with pytest.raises(StepError, match="was removed while the run was going on"):
        tail.new()
