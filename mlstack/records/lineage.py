"""Where a model comes from: data, code, config, seed, environment and run."""

from typing import Any

from mlstack.records.base import Record
from mlstack.records.dataset_version import DatasetVersion
from mlstack.records.run import CodeVersion, Environment, RunSpec


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


class Embedded(Record, frozen=True, kw_only=True, tag="lineage.embedded"):
    """What `model.onnx` itself says under `mlstack.lineage`, so that a bare file tells its origin.

    It holds nothing of the package, neither its number nor when it was made: the same run gives
    the same bytes.
    """

    model: str
    run: str
    created: str  # the run, UTC, ISO 8601
    dataset: DatasetVersion
    code: CodeVersion
    environment: Environment
    config: dict[str, Any]
    seed: int
    checkpoint_sha256: str
    parent: str | None = None


def embedded(spec: RunSpec, model: str, checkpoint_sha256: str) -> Embedded:
    """Give what the graph of a run says of itself."""
    return Embedded(
        model=model,
        run=spec.id,
        created=spec.created,
        dataset=spec.dataset,
        code=spec.code,
        environment=spec.environment,
        config=spec.config,
        seed=spec.seed,
        checkpoint_sha256=checkpoint_sha256,
        parent=spec.parent,
    )
