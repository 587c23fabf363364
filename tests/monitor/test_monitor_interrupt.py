"""Ctrl-C in the middle of a query is Ctrl-C, not a damaged log and not a bug."""

import duckdb
import pytest

from mlstack.monitor import windows


@pytest.mark.parametrize("kind", [RuntimeError, duckdb.InterruptException])
def test_duckdbs_word_for_ctrl_c_is_a_keyboard_interrupt(kind):
    with pytest.raises(KeyboardInterrupt), windows._interruptible():
        raise kind("Query interrupted")


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="no memory"), windows._interruptible():
        raise RuntimeError("no memory")
