"""Whether a stage is stale, and why: dvc.lock against what is there, without starting DVC."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlstack import files
from mlstack.config import Project
from mlstack.pipeline import labels, pipefile
from mlstack.pipeline.stages import EVENTS, Stage, config_slice, digest, present
from mlstack.records import data_folder
from mlstack.records.base import read
from mlstack.records.dataset_hash import hash_dataset, is_packed
from mlstack.records.layout import Layout
from mlstack.records.stage import StageState

ABSENT = object()
Inputs = dict[str, Any]  # `path` -> MD5 as DVC records it; setting -> its value in mlstack.yaml


@dataclass
class Look:
    """One look at a project: each file is hashed once, however many stages depend on it."""

    project: Project
    hashes: dict[str, str | None] = field(default_factory=dict)
    lock: dict[str, Any] | None = None

    def recorded(self, stage: Stage) -> dict[str, Any] | None:
        """Give what dvc.lock says of a stage."""
        if self.lock is None:
            self.lock = pipefile.read_lock(self.project.root)
        return self.lock.get(stage.name)

    def md5(self, name: str) -> str | None:
        """Hash a file or folder of the project as DVC does; None when it is not there."""
        if name not in self.hashes:
            self.hashes[name] = _hashed(self.project.root, name)
        return self.hashes[name]


def reasons(look: Look, stage: Stage) -> list[str]:
    """Say why a stage must run; nothing when it is up to date."""
    recorded, root = look.recorded(stage), look.project.root
    if not recorded:
        return ["it was never run"]
    if recorded.get("cmd") != stage.cmd:
        return ["its command changed"]
    if changed := list(differences(recorded_inputs(recorded), inputs(look, stage))):
        return changed
    if not (root / stage.out).is_file():
        begun = (root / stage.out).with_suffix(".begun.json").is_file()
        return ["it was cut short" if begun else f"`{stage.out}` is gone"]
    if changed := _changed_outs(look, stage, recorded):
        return changed
    state = read(root / stage.out, StageState)
    if state.config_sha256 != digest(config_slice(stage, look.project.config)):
        return ["a setting is overridden outside mlstack.yaml"]
    return []


def inputs(look: Look, stage: Stage) -> Inputs:
    """Give everything that a stage depends on, as it is now; what is missing is left out."""
    found: Inputs = {f"`{name}`": md5 for name in stage.deps if (md5 := look.md5(name))}
    document = pipefile.read_config(look.project.root)
    values = config_slice(stage, document)
    return found | {key: values[key] for key in present(document, stage)}


def recorded_inputs(recorded: dict[str, Any]) -> Inputs:
    """Give everything that a stage depended on when DVC recorded it."""
    found: Inputs = {f"`{dep['path']}`": dep.get("md5") for dep in recorded.get("deps", [])}
    return found | dict(recorded.get("params", {}).get(pipefile.CONFIG, {}))


def differences(then: Inputs, now: Inputs) -> Iterator[str]:
    """Name every input that changed: the user's own files first, then ours, then settings."""
    for name in sorted(then.keys() | now.keys(), key=_importance):
        if name.startswith("`"):
            if then.get(name) != now.get(name):
                yield f"{name} {_change(name in then, name in now)}"
        else:
            yield from _settings(name, then.get(name, ABSENT), now.get(name, ABSENT))


def _importance(name: str) -> tuple[bool, bool, str]:
    return not name.startswith("`"), name.startswith("`.mlstack/"), name


def _settings(key: str, then: Any, now: Any) -> Iterator[str]:
    """Name the settings below `key` that differ, and how."""
    if then == now:
        return
    if isinstance(then, dict) and isinstance(now, dict):
        for name in sorted(then.keys() | now.keys(), key=str):
            yield from _settings(f"{key}.{name}", then.get(name, ABSENT), now.get(name, ABSENT))
        return
    there = (then is not ABSENT, now is not ABSENT)
    values = f" ({_short(then)} -> {_short(now)})" if all(there) else ""
    yield f"the setting `{key}` {_change(*there)}{values}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:23]}…"


def _change(was_there: bool, is_there: bool) -> str:
    if was_there and is_there:
        return "changed"
    return "is gone" if was_there else "is new"


def _changed_outs(look: Look, stage: Stage, recorded: dict[str, Any]) -> list[str]:
    then = {out["path"]: out.get("md5") for out in recorded.get("outs", [])}
    now = {name: _hashed(look.project.root, name) for name in stage.outs}
    if then == now:
        return []
    odd = sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))
    gone = [name for name in odd if now.get(name) is None]
    return [f"`{gone[0]}` is gone" if gone else f"its result `{odd[0]}` is not the one recorded"]


def _hashed(root: Path, name: str) -> str | None:
    path = root / name
    if name == EVENTS:  # the file may be older than the newest event
        return labels.events_md5(Layout(root))
    if is_packed(path):  # the same content, and so the same hash, as when it is laid out
        return hash_dataset(root, name).md5
    if path.is_dir():
        return data_folder.hash_folder(path, Layout(root).index(name)).md5
    return files.md5(path) if path.is_file() else None
