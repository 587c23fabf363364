"""The training code: does it learn a batch, and can a checkpoint be read again?"""

import pytest
from conftest import mlstack


@pytest.mark.training
def test_the_training_code_learns_one_batch_and_reloads_its_checkpoint() -> None:
    code, answer = mlstack("train", "--check")

    assert code == 0, answer.get("error", answer)
