"""The variants of a graph that `export` weighed: `mlstack/variants.json` of a package."""

import msgspec

from mlstack.records.base import Record


class Times(Record, frozen=True, kw_only=True, tag="package.times"):
    """How long single calls of so many rows took, in milliseconds."""

    batch: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


class Variant(Record, frozen=True, kw_only=True, tag="package.variant"):
    """One graph that might have been packed."""

    precision: str  # fp32, fp16, int8-dynamic, int8-static or int8-static-s8s8; -after-PERCENT
    chosen: bool = False
    why: str = ""  # it was chosen or not
    size_bytes: int | None = None  # null: it was not made
    metrics: dict[str, float] = msgspec.field(default_factory=dict)
    drop_points: float | None = None  # of accuracy against the training code, in percent points
    agreement: float | None = None  # share of the training code's classes, validation part
    max_probability_diff: float | None = None
    times: list[Times] = msgspec.field(default_factory=list)
    red: list[str] = msgspec.field(default_factory=list)  # gates

    def p50_ms(self, batch: int = 1) -> float | None:
        """Give the median of calls of `batch` rows; None if that was not timed."""
        return next((t.p50_ms for t in self.times if t.batch == batch), None)


class Variants(Record, frozen=True, kw_only=True, tag="package.variants"):
    """All that were weighed, and where they were timed."""

    target: str
    budget: str = ""
    variants: list[Variant] = msgspec.field(default_factory=list)
    training_code: list[Times] = msgspec.field(default_factory=list)  # the module in torch
    processor: str = ""
    threads: int = 0
    runtime: str = ""
