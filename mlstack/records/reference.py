"""The reference profile: how inputs and predictions looked on data the model was proven on."""

from itertools import pairwise
from typing import Annotated

import msgspec

from mlstack.records.base import Record

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]  # what a float still holds exactly
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class NumericColumn(Record, frozen=True, kw_only=True, tag="column.numeric"):
    """Counts between edges: bin i holds edges[i-1] < x <= edges[i]; len(counts) = len(edges)+1."""

    name: str
    edges: list[float]
    counts: list[Count]
    missing: Count = 0
    mean: float = 0.0
    deviation: float = 0.0

    def __post_init__(self) -> None:
        """See that the edges rise: bins in another order would be taken for drift."""
        if any(before > after for before, after in pairwise(self.edges)):
            raise ValueError(f"the edges of `{self.name}` do not rise")


class CategoryColumn(Record, frozen=True, kw_only=True, tag="column.category"):
    """Counts by value; of an input, the log holds the place of the value in `counts`."""

    name: str
    counts: dict[str, Count]
    missing: Count = 0


class Reference(Record, frozen=True, kw_only=True, tag="package.reference"):
    """`mlstack/reference.json`: the columns of the request log over the reference examples."""

    rows: Count
    origin: str  # which examples, e.g. "val+test of run 20260102-..."
    numeric: list[NumericColumn] = msgspec.field(default_factory=list)
    categories: list[CategoryColumn] = msgspec.field(default_factory=list)
    classes: list[str] = msgspec.field(default_factory=list)
    accuracy: Share | None = None  # on the reference examples, for the estimate of harm
