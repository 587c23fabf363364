"""Where a model comes from: data, code, config, seed, environment and run."""

from typing import Any

from mlstack.records.base import Record
from mlstack.records.dataset import DatasetVersion
from mlstack.records.run import CodeVersion, Environment


class Lineage(Record, frozen=True, kw_only=True, tag="lineage"):
    """`mlstack/lineage.json` of a package: enough to make the model again."""

    model: str
    number: int
    run: str
    created: str  # UTC, ISO 8601
    dataset: DatasetVersion
    code: CodeVersion
    environment: Environment
    config: dict[str, Any]
    seed: int
    checkpoint_sha256: str
    parent: str | None = None
