"""The stages: what each one runs, and everything that it depends on."""

import ast
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlstack.config import Config, Project
from mlstack.records.layout import Layout

LABELS, TRAIN, EXPORT = "labels", "train", "export"
EVENTS = ".mlstack/stages/labels.events"  # number of the last label event; see `labels.py`


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline."""

    name: str
    about: str
    commands: tuple[tuple[str, ...], ...]  # words after `mlstack`
    deps: tuple[str, ...]  # files and folders, relative to the project
    settings: tuple[str, ...]  # parts of the config that it reads

    @property
    def out(self) -> str:
        """The file that names what the stage made."""
        return f".mlstack/stages/{self.name}.json"

    @property
    def cmd(self) -> str:
        """The command line in dvc.yaml."""
        return f"mlstack run {self.name} --only"


def stages(project: Project) -> list[Stage]:
    """List the stages of a project in their order; labels only where people label."""
    config = project.config
    found: list[Stage] = []
    if Layout(project.root).labels_db.is_file():
        found.append(
            Stage(
                LABELS,
                "mlstack label export; mlstack version snapshot",
                (("label", "export"), ("version", "snapshot", "-m", "labels, by mlstack run")),
                (EVENTS,),
                ("data.source",),
            )
        )
    before = tuple(stage.out for stage in found)
    found.append(
        Stage(
            TRAIN,
            "mlstack train",
            (("train",),),
            (config.data.folder, *before, *sorted(code_files(project))),
            ("project.task", "project.seed", "data", "model", "train"),
        )
    )
    found.append(
        Stage(
            EXPORT,
            "mlstack export of that run",
            (("export", "{run}"),),
            (found[-1].out,),
            ("project.name", "export", "gates"),
        )
    )
    return found


def code_files(project: Project) -> set[str]:
    """List the files of the user's packages that a run imports, and of what those import."""
    config, root = project.config, project.root
    references = [config.model.class_, config.data.module, config.data.augment]
    waiting = [r.split(":")[0].split(".")[0] for r in references if r and ":" in r]
    seen: set[str] = set()
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for path in _package_files(root, name):
            found.add(path.relative_to(root).as_posix())
            if path.suffix == ".py":
                waiting.extend(_imported(path))
    return found


def config_slice(stage: Stage, config: Config | dict[str, Any]) -> dict[str, Any]:
    """Give the resolved settings that a stage reads, by their key."""
    tree = config.model_dump(mode="json", by_alias=True) if isinstance(config, Config) else config
    return {key: _at(tree, key) for key in stage.settings}


def digest(content: Any) -> str:
    """Hash anything that JSON can write, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def present(document: dict[str, Any], stage: Stage) -> list[str]:
    """List the settings of a stage that mlstack.yaml itself holds; DVC can only watch those."""
    missing = object()
    return [key for key in stage.settings if _at(document, key, missing) is not missing]


def _at(tree: Any, key: str, default: Any = None) -> Any:
    for part in key.split("."):
        if not isinstance(tree, dict) or part not in tree:
            return default
        tree = tree[part]
    return tree


def _package_files(root: Path, name: str) -> Iterator[Path]:
    if (root / f"{name}.py").is_file():
        yield root / f"{name}.py"
    if (root / name / "__init__.py").is_file() or any((root / name).glob("*.py")):
        for path in (root / name).rglob("*"):
            hidden = any(p.startswith(".") or p == "__pycache__" for p in path.parts[-3:])
            if path.is_file() and not hidden:
                yield path


def _imported(path: Path) -> Iterator[str]:
    """Yield the first part of every module that a file imports; a broken file imports nothing."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]
