"""What `train --check` says of the columns of a table."""

import pytest
import torch
from pytorch_lightning import LightningModule

from mlstack.inputs.tables import TableSpec
from mlstack.train.worker.probes import Seen, Verdict, of_both

SPEC = TableSpec({"age": 0.0}, {"city": ["Bern", "Rome"], "why": ["dear"]})


class Linear(LightningModule):
    """A network of one layer, which may leave the first value unread."""

    def __init__(self, *, unread: int = 0) -> None:
        super().__init__()
        self.unread = unread
        self.layer = torch.nn.Linear(6 - unread, 2)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.layer(rows[:, self.unread :])


def verdict(name: str, model: LightningModule, origins: tuple[str, ...]) -> Verdict:
    """Give one verdict on rows of `SPEC` whose column `why` is the class."""
    made = torch.Generator().manual_seed(0)
    targets = torch.arange(200) % 2
    city = torch.nn.functional.one_hot(torch.randint(3, (200,), generator=made), 3)
    why = torch.stack([targets, 1 - targets], dim=1)
    rows = torch.cat([torch.rand(200, 1, generator=made), city, why], dim=1).float()
    seen = Seen([[rows, targets]], [[rows, targets]], None, 2, 0.0, origins)
    return next(one for one in of_both(seen, model, 1.0, is_dead=False) if one.name == name)


def test_each_feature_of_a_row_has_the_column_it_comes_from() -> None:
    encoded = SPEC.encode([{"age": 1, "city": "Rome", "why": None}])

    assert SPEC.origins == ["age", "city", "city", "city", "why", "why"]
    assert len(SPEC.origins) == encoded.shape[1]


@pytest.mark.parametrize(
    ("origins", "named"), [(tuple(SPEC.origins), "column `why`"), ((), "value 4")]
)
def test_a_column_that_is_the_label_is_named(origins: tuple[str, ...], named: str) -> None:
    found = verdict("labels fit the inputs", Linear(), origins)

    assert not found.passed
    assert found.detail.startswith(f"{named} of the input alone")
    assert ("data.args.ignore: [why]" in found.hint) == bool(origins)


def test_a_column_that_is_not_read_is_named() -> None:
    found = verdict("inputs are used", Linear(unread=1), tuple(SPEC.origins))

    assert not found.passed
    assert found.detail.endswith("column `age`")
