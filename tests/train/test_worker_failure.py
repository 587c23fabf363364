"""What is said of an exception that says nothing of what to do."""

import pytest
import torch
from torch import nn

from mlstack.train.worker.failure import hint_of


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(30), nn.Linear(30, 4)], ids=["norm", "linear"])
def test_a_layer_of_another_width_is_told_which_setting_says_it(layer: nn.Module) -> None:
    with pytest.raises(RuntimeError) as raised:
        layer(torch.zeros(64, 11))

    said = hint_of(raised.value)

    assert "takes 30 values was given 11" in said
    assert "model.args" in said


def test_nothing_is_made_up_about_another_exception() -> None:
    assert hint_of(RuntimeError("something else")) == ""
