"""Where a model comes from, and whether it comes out again."""

from typing import Any

import msgspec

from mlstack.records.base import Record, Result
from mlstack.records.dataset_version import DatasetVersion
from mlstack.records.package import GateResult
from mlstack.records.run import CodeVersion, Environment


class SettingChange(Record, frozen=True, kw_only=True, tag="version.setting"):
    """A setting that differs from the run before."""

    key: str
    before: Any = None
    after: Any = None


class Predicted(Record, frozen=True, kw_only=True, tag="version.prediction"):
    """A served prediction."""

    id: str
    at: str  # when it was answered, UTC, ISO 8601
    model: str
    version: int
    route: str
    status: int
    latency_us: int
    prediction: str | None = None
    confidence: float | None = None
    label: str | None = None  # what came as feedback, the latest


class Shown(Result, frozen=True, kw_only=True, tag="version.shown"):
    """Where a run or a model package comes from, and what came of it."""

    model: str | None
    number: int | None
    run: str
    created: str
    dataset: DatasetVersion
    code: CodeVersion
    environment: Environment
    seed: int
    config: dict[str, Any]
    metrics: dict[str, float] = msgspec.field(default_factory=dict)
    compared_with: str | None = None  # run whose config `settings` is compared with
    settings: list[SettingChange] = msgspec.field(default_factory=list)
    parents: list[str] = msgspec.field(default_factory=list)  # nearest first
    packages: list[str] = msgspec.field(default_factory=list)  # NAME/N made from this run
    live: list[str] = msgspec.field(default_factory=list)  # where it answers, e.g. "digits: live"
    gates: list[GateResult] = msgspec.field(default_factory=list)  # that the package passed
    prediction: Predicted | None = None  # the one that was asked for
    attempts: int | None = None  # times the run was started; over 1 it was resumed
    checkpoint_sha256: str | None = None  # of the checkpoint that the package was made of
    notes: list[str] = msgspec.field(default_factory=list)

    def headline(self) -> str:
        """Give the run."""
        return self.run


class MetricPair(Record, frozen=True, kw_only=True, tag="version.metric"):
    """A final metric of both runs."""

    name: str
    first: float | None
    again: float | None


class Divergence(Record, frozen=True, kw_only=True, tag="version.divergence"):
    """Something that is not as it was when the run was trained first."""

    of: str  # data, code, config, seed, library, machine, tensor or metric
    name: str
    detail: str


class Reproduced(Result, frozen=True, kw_only=True, tag="version.reproduced"):
    """A run trained again from its lineage."""

    run: str
    again: str
    weights_equal: bool
    metrics: list[MetricPair]
    folder: str
    exact: bool = True  # same machine, libraries, no GPU: nothing less than equal bits will do
    tolerance: float = 0.0
    differences: list[Divergence] = msgspec.field(default_factory=list)

    def levels(self) -> dict[str, bool]:
        """Tell which levels were reached, from the lowest to the highest."""
        kinds = {one.of for one in self.differences}
        return {
            "data-identical": "data" not in kinds,
            "code-identical": not kinds & {"code", "config", "seed"},
            "metric-equal": all(self._near(pair) for pair in self.metrics),
            "bit-equal": self.weights_equal,
        }

    def same(self) -> bool:
        """Tell whether the same model came out, as far as can be asked here."""
        reached = self.levels()
        if self.exact:
            return all(reached.values()) and all(p.first == p.again for p in self.metrics)
        return reached["data-identical"] and reached["code-identical"] and reached["metric-equal"]

    def headline(self) -> str:
        """Name the highest level that was reached with all below it."""
        highest = "different"
        for name, is_reached in self.levels().items():
            if not is_reached:
                break
            highest = name
        return highest

    def exit_code(self) -> int:
        """Give 1 when the runs differ."""
        return 0 if self.same() else 1

    def _near(self, pair: MetricPair) -> bool:
        if pair.first is None or pair.again is None:
            return False
        return abs(pair.first - pair.again) <= self.tolerance * max(1.0, abs(pair.first))
