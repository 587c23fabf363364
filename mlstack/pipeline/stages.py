"""The stages: what each one runs, and everything that it depends on."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlstack.config import Config, Project
from mlstack.pipeline import imports
from mlstack.records.dataset import EXAMPLES
from mlstack.records.layout import Layout
from mlstack.records.prepared import SUMMARY

LABELS, PREPARE, TRAIN, EVALUATE, EXPORT = "labels", "prepare", "train", "evaluate", "export"
EVENTS = ".mlstack/stages/labels.events"  # number of the last label event; see `labels.py`
PREPARED = ".mlstack/prepared"
EVALUATION = "evaluation"
METRICS = f"{EVALUATION}/metrics.json"
CONFUSION = f"{EVALUATION}/confusion.csv"
TRAINING = f"{EVALUATION}/training.csv"
TABLES = tuple(f"{EVALUATION}/{name}.csv" for name in ("classes", "slices", "mistakes"))


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline."""

    name: str
    about: str
    commands: tuple[tuple[str, ...], ...]  # words after `mlstack`
    deps: tuple[str, ...]  # files and folders, relative to the project
    settings: tuple[str, ...] = ()  # parts of the config that it reads
    needs: tuple[str, ...] = ()  # stages whose results it reads
    files: tuple[str, ...] = ()  # what it writes beside its state, the same for the same inputs
    metrics: tuple[str, ...] = ()
    plots: dict[str, dict[str, str]] = field(default_factory=dict)  # file -> how DVC draws it

    @property
    def out(self) -> str:
        """The file that names what the stage made."""
        return state_file(self.name)

    @property
    def cmd(self) -> str:
        """The command line in dvc.yaml."""
        return f"mlstack run {self.name} --only"

    @property
    def outs(self) -> tuple[str, ...]:
        """Everything that the stage leaves and DVC watches."""
        return (self.out, *self.files, *self.metrics, *self.plots)


def stages(project: Project) -> list[Stage]:
    """List the stages of a project in their order; labels only where people label."""
    labels = _labels(project) if Layout(project.root).labels_db.is_file() else []
    return [
        *labels,
        _prepare(project, labels),
        _train(project),
        _evaluate(project),
        _export(project),
    ]


def closure(known: list[Stage], wanted: str) -> list[Stage]:
    """Give a stage and all that it needs, in their order."""
    names = {wanted}
    for stage in reversed(known):
        if stage.name in names:
            names.update(stage.needs)
    return [stage for stage in known if stage.name in names]


def state_file(name: str) -> str:
    """Give the file that names what a stage made."""
    return f".mlstack/stages/{name}.json"


def code_files(project: Project) -> set[str]:
    """List the files of the project that a run imports, and what those import."""
    config = project.config
    references = [config.model.class_, config.data.module, config.data.augment]
    modules = [r.partition(":")[0] for r in references if r and ":" in r]
    return imports.imported_files(project.root, modules)


def config_slice(stage: Stage, config: Config | dict[str, Any]) -> dict[str, Any]:
    """Give the resolved settings that a stage reads, by their key."""
    tree = config.model_dump(mode="json", by_alias=True) if isinstance(config, Config) else config
    return {key: _at(tree, key) for key in stage.settings}


def digest(content: Any) -> str:
    """Hash anything that JSON can write, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def present(document: dict[str, Any], stage: Stage) -> list[str]:
    """List the settings of a stage that mlstack.yaml itself holds; DVC can only watch those."""
    missing = object()
    return [key for key in stage.settings if _at(document, key, missing) is not missing]


def _labels(project: Project) -> list[Stage]:
    return [
        Stage(
            name=LABELS,
            about="mlstack label export; mlstack version snapshot",
            commands=(("label", "export"), ("version", "snapshot", "-m", "labels, by mlstack run")),
            deps=(EVENTS,),
            settings=("data.source", "data.classes"),
        )
    ]


def _prepare(project: Project, labels: list[Stage]) -> Stage:
    # All of `data`: DVC cannot watch a key that is not there yet, such as a new `data.checks`.
    return Stage(
        name=PREPARE,
        about="mlstack version check; divide the examples into train, val and test",
        commands=(("version", "check"),),
        deps=(project.config.data.folder, *(stage.out for stage in labels)),
        settings=("project.task", "project.seed", "data"),
        needs=tuple(stage.name for stage in labels),
        files=(f"{PREPARED}/{EXAMPLES}", f"{PREPARED}/{SUMMARY}"),
    )


def _train(project: Project) -> Stage:
    return Stage(
        name=TRAIN,
        about="mlstack train",
        commands=(("train",),),
        deps=(
            project.config.data.folder,
            f"{PREPARED}/{EXAMPLES}",
            *sorted(code_files(project)),
        ),
        settings=("project.task", "project.seed", "data", "model", "train"),
        needs=(PREPARE,),
    )


def _evaluate(project: Project) -> Stage:
    # Data, code and settings are those of the run, which another state of them makes anew.
    return Stage(
        name=EVALUATE,
        about="mlstack train evaluate, of that run",
        commands=(("train", "evaluate", "{run}"),),
        deps=(state_file(TRAIN),),
        needs=(TRAIN,),
        files=TABLES,
        metrics=(METRICS,),
        plots={
            CONFUSION: {
                "template": "confusion",
                "x": "predicted",
                "y": "actual",
                "title": "which class is taken for which",
            },
            TRAINING: {
                "x": "epoch",
                "y": project.config.train.monitor,
                "title": f"{project.config.train.monitor} in each epoch",
            },
        },
    )


def _export(project: Project) -> Stage:
    return Stage(
        name=EXPORT,
        about="mlstack export, of that run",
        commands=(("export", "{run}"),),
        deps=(state_file(TRAIN), *_golden(project)),
        settings=("project.name", "export", "gates", "serve.batching.max_size"),
        needs=(TRAIN,),
    )


def _golden(project: Project) -> list[str]:
    """List the file that `gates.functionality` names, and the files that its lines name."""
    named = project.config.gates.functionality
    if named is None or not _is_own_file(project.root, named):
        return []
    found = {Path(named).as_posix()}
    for line in (project.root / named).read_bytes().splitlines():
        try:
            file = json.loads(line)["file"]
        except (ValueError, KeyError, TypeError):  # `mlstack export` says which line is wrong
            continue
        if isinstance(file, str) and _is_own_file(project.root, file):
            found.add(Path(file).as_posix())
    return sorted(found)


def _is_own_file(root: Path, name: str) -> bool:
    path = Path(name)
    return not path.is_absolute() and ".." not in path.parts and (root / path).is_file()


def _at(tree: Any, key: str, default: Any = None) -> Any:
    for part in key.split("."):
        if not isinstance(tree, dict) or part not in tree:
            return default
        tree = tree[part]
    return tree
