"""Config -> run: everything that a training depends on, fixed before it starts."""

import base64
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from msgspec import structs
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mlstack import files
from mlstack.config import Config, Project, refuse_unbuilt
from mlstack.errors import ConfigError, Mistake
from mlstack.launch import (
    code,
    dataset,
    division,
    environment,
    refusals,
    teacher,
    unlabeled,
    user_source,
)
from mlstack.launch.gpus import Gpu
from mlstack.plurals import counted
from mlstack.records import base
from mlstack.records.dataset import EXAMPLES, UNLABELED, DatasetVersion, write_examples
from mlstack.records.layout import Layout
from mlstack.records.run import SPEC, RunSpec, find_run


@dataclass(frozen=True)
class Prepared:
    """What runs of the same code and data share; made once for all trials of a study."""

    dataset: DatasetVersion
    examples: pa.Table
    classes: list[str]
    code: code.Code
    unlabeled: pa.Table | None = None  # for train.distill.unlabeled


@dataclass(frozen=True)
class Cluster:
    """The machines of a run that is trained elsewhere."""

    nodes: int = 1
    gpus_per_node: int = 0  # 0 trains train.ranks on the CPUs of all nodes


@dataclass(frozen=True)
class PlanOptions:
    """What a caller may settle about a run."""

    gpus: tuple[Gpu, ...] = ()  # leased ones; none trains on the CPU
    cluster: Cluster | None = None  # None trains on this machine
    allow_dirty: bool = False
    mode: str = "fit"  # fit or check
    parent: str | None = None  # id of the run whose config is the base
    overrides: Mapping[str, Any] = field(default_factory=dict)  # dotted setting -> value
    study: str | None = None
    trial: int | None = None
    command: tuple[str, ...] = ()
    prepared: Prepared | None = None


def plan(project: Project, options: PlanOptions) -> RunSpec:
    """Make the folder of a new run: run.json, examples.parquet, code.diff.

    Raises:
        ConfigError: an override is wrong, the ranks cannot share the batch or the examples, or
            the settings fit neither the classes nor the machine.
        DataError: the data is not snapshotted, or its labels are wrong.
    """
    project = configured(project, options)
    refuse_unbuilt(project, "train")
    user_source.check(project.root, project.config)
    project = teacher.named(project)
    ready = options.prepared or prepare(project, allow_dirty=options.allow_dirty)
    teacher.refuse_other_classes(project, ready.classes)
    ranks = ranks_of(project.config, options)
    _refuse_uneven(project.config, options, ranks)
    on_gpus = bool(options.gpus) or bool(options.cluster and options.cluster.gpus_per_node)
    refusals.refuse_settings(project.config, ready.classes, ranks, on_gpus=on_gpus)
    refusals.refuse_sizes(ready.dataset.split, ranks)
    now = datetime.now(UTC)
    spec = RunSpec(
        id=_new_id(now),
        created=now.isoformat(timespec="seconds").replace("+00:00", "Z"),
        root=str(project.root),
        command=list(options.command),
        config=as_json(project.config),
        dataset=ready.dataset,
        code=ready.code.version,
        environment=environment.describe(list(options.gpus)),
        seed=project.config.project.seed,
        classes=ready.classes,
        ranks=ranks,
        gpus=_indices(options),
        mode=options.mode,
        parent=options.parent,
        study=options.study,
        trial=options.trial,
    )
    _write(Layout(project.root).run(spec.id), spec, ready)
    return spec


def prepare(project: Project, *, allow_dirty: bool) -> Prepared:
    """Hash, check and divide the data, and describe the code.

    Raises:
        DataError: the data is not snapshotted, or its labels are wrong.
    """
    hashed = dataset.hash_source(project)
    version = dataset.version_of(project, hashed, allow_dirty=allow_dirty)
    table, classes = division.divided(project, hashed)
    parts: list[str] = table["split"].to_pylist()
    sizes = {part: parts.count(part) for part in ("train", "val", "test")}
    version = structs.replace(version, classes=classes, split=sizes)
    pool = unlabeled.found(project, hashed, table)
    return Prepared(version, table, classes, code.describe(project.root), pool)


def configured(project: Project, options: PlanOptions) -> Project:
    """Apply the parent's config and the overrides.

    Raises:
        ConfigError: the result is not a valid config.
        DataError: there is no such parent.
    """
    document = as_json(project.config)
    if options.parent is not None:
        runs = Layout(project.root).runs
        parent = base.read(runs / find_run(runs, options.parent) / SPEC, RunSpec)
        document = parent.config
    elif not options.overrides:
        return project
    for key, value in options.overrides.items():
        _put(document, key, value)
    try:
        config = Config.model_validate(document)
    except ValidationError as error:
        mistakes = tuple(
            Mistake(
                f"{'.'.join(map(str, e['loc']))}: {_in_words(e)}", key=".".join(map(str, e["loc"]))
            )
            for e in error.errors()
        )
        raise ConfigError("the settings of this run are not valid", mistakes=mistakes) from error
    return replace(project, config=config)


def _in_words(error: ErrorDetails) -> str:
    said = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    said = said.replace("a valid integer", "a whole number").replace("a valid string", "text")
    return f"{error['input']!r} {said}" if said[:6] == "should" else said


def as_json(config: Config) -> dict[str, Any]:
    """Turn a config into what run.json holds."""
    return config.model_dump(mode="json", by_alias=True)


def _put(document: dict[str, Any], key: str, value: Any) -> None:
    place: Any = document
    *parents, last = key.split(".")
    for part in parents:
        place = place.setdefault(part, {}) if isinstance(place, dict) else None
    if not isinstance(place, dict):
        raise ConfigError(f"`{key}` is not a setting", hint="type `mlstack config show --all`")
    place[last] = value


def ranks_of(config: Config, options: PlanOptions) -> int:
    """Say how many processes a run has.

    Raises:
        ConfigError: the nodes of a cluster cannot share them.
    """
    cluster = options.cluster or Cluster()
    ranks = len(options.gpus) or cluster.nodes * cluster.gpus_per_node or config.train.ranks
    if ranks % cluster.nodes:
        raise ConfigError(
            f"{counted(ranks, 'rank')} cannot be shared evenly by {cluster.nodes} nodes",
            hint=f"--ranks {max(1, ranks // cluster.nodes) * cluster.nodes}",
        )
    return ranks


def _refuse_uneven(config: Config, options: PlanOptions, ranks: int) -> None:
    size, parts = config.train.batch_size, ranks * config.train.accumulate
    if size % parts:
        fitting = max(1, size // parts) * parts
        by = counted(ranks, "rank")
        by += "" if parts == ranks else f" in {config.train.accumulate} parts each"
        raise ConfigError(
            f"train.batch_size: {size} cannot be shared evenly by {by}",
            hint=f"--batch-size {fitting}, or another number of ranks"
            if options.study is None
            else f"let train.batch_size in tune.space be {fitting}",
        )


def _indices(options: PlanOptions) -> list[int]:
    """List the GPUs of each machine; a cluster's scheduler says which ones they really are."""
    if options.cluster is not None:
        return list(range(options.cluster.gpus_per_node))
    return [gpu.index for gpu in options.gpus]


def _new_id(now: datetime) -> str:
    letters = base64.b32encode(secrets.token_bytes(3)).decode().lower()[:4]
    return f"{now:%Y%m%d-%H%M%S}-{letters}"


def _write(folder: Path, spec: RunSpec, ready: Prepared) -> None:
    beside = folder.with_name(f".{folder.name}")
    beside.mkdir(parents=True)
    try:
        base.write(beside / SPEC, spec)
        write_examples(beside / EXAMPLES, ready.examples)
        if ready.unlabeled is not None:
            write_examples(beside / UNLABELED, ready.unlabeled)
        if ready.code.diff:
            files.write_bytes(beside / code.DIFF, ready.code.diff)
        files.move(beside, folder)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
