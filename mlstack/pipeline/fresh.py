"""Whether a stage is stale, and why: dvc.lock against what is there, without starting DVC."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from mlstack import files
from mlstack.config import Project
from mlstack.pipeline import pipefile
from mlstack.pipeline.stages import Stage, config_slice, digest, present
from mlstack.records import data_folder
from mlstack.records.base import read
from mlstack.records.layout import Layout
from mlstack.records.stage import StageState


def why_stale(project: Project, stage: Stage, recorded: dict[str, Any] | None) -> str:
    """Say why a stage must run; nothing when it is up to date.

    Args:
        project: the project.
        stage: the stage.
        recorded: what dvc.lock says of it.
    """
    root = project.root
    if not recorded or not (root / stage.out).is_file():
        return "it was never run"
    if recorded.get("cmd") != stage.cmd:
        return "its command changed"
    then = {dep["path"]: dep.get("md5") for dep in recorded.get("deps", [])}
    now = dependencies(root, stage)
    for path in sorted(then.keys() | now.keys()):
        if then.get(path) != now.get(path):
            return f"`{path}` {_change(path in then, path in now)}"
    if changed := _changed_setting(root, stage, recorded):
        return f"the setting `{changed}` changed"
    if [files.md5(root / stage.out)] != [out.get("md5") for out in recorded.get("outs", [])]:
        return "it ran again without being recorded"
    state = read(root / stage.out, StageState)
    if state.config_sha256 != digest(config_slice(stage, project.config)):
        return "a setting is overridden outside mlstack.yaml"
    return ""


def dependencies(root: Path, stage: Stage) -> dict[str, str]:
    """Give the MD5 of everything a stage depends on, as DVC records it; what is missing is not."""
    found: dict[str, str] = {}
    for name in stage.deps:
        path = root / name
        if path.is_dir():
            found[name] = data_folder.hash_folder(path, Layout(root).index(name)).md5
        elif path.is_file():
            found[name] = files.md5(path)
    return found


def _changed_setting(root: Path, stage: Stage, recorded: dict[str, Any]) -> str:
    document = YAML(typ="safe", pure=True).load(root / pipefile.CONFIG)
    then = recorded.get("params", {}).get(pipefile.CONFIG, {})
    now = {key: config_slice(stage, document)[key] for key in present(document, stage)}
    changed = [key for key in sorted(then.keys() | now.keys()) if then.get(key) != now.get(key)]
    return changed[0] if changed else ""


def _change(was_there: bool, is_there: bool) -> str:
    if was_there and is_there:
        return "changed"
    return "is gone" if was_there else "is new"
