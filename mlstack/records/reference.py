"""The reference profile: how inputs and predictions looked on data the model was proven on."""

import msgspec

from mlstack.records.base import Record


class NumericColumn(Record, frozen=True, kw_only=True, tag="column.numeric"):
    """Counts between edges: bin i holds edges[i-1] < x <= edges[i]; len(counts) = len(edges)+1."""

    name: str
    edges: list[float]
    counts: list[int]
    missing: int = 0
    mean: float = 0.0
    deviation: float = 0.0


class CategoryColumn(Record, frozen=True, kw_only=True, tag="column.category"):
    """Counts by value; of an input, the log holds the place of the value in `counts`."""

    name: str
    counts: dict[str, int]
    missing: int = 0


class Reference(Record, frozen=True, kw_only=True, tag="package.reference"):
    """`mlstack/reference.json`: the columns of the request log over the reference examples."""

    rows: int
    origin: str  # which examples, e.g. "val+test of run 20260102-..."
    numeric: list[NumericColumn] = msgspec.field(default_factory=list)
    categories: list[CategoryColumn] = msgspec.field(default_factory=list)
    classes: list[str] = msgspec.field(default_factory=list)
    accuracy: float | None = None  # on the reference examples, for the estimate of harm
