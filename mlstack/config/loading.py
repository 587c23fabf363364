"""Read mlstack.yaml and what overrides it; report every mistake at once."""

import os
from pathlib import Path

from pydantic import ValidationError

from mlstack import shell
from mlstack.config import dotted, layers, mistakes
from mlstack.config.document import Entry, Found, Source, parse
from mlstack.config.project import Project
from mlstack.config.schema import VERSION, Config
from mlstack.errors import ConfigError, Mistake
from mlstack.plurals import counted


def load(path: Path, *, sets: tuple[str, ...] = ()) -> Project:
    """Read the project file at `path`, overridden by the local file, the environment and `sets`.

    Raises:
        ConfigError: anything is wrong; `mistakes` names all of it.
    """
    if not path.is_file():
        raise _no_project(path)
    found: list[Found] = []
    document = _read(path, sets, found)
    config = _validate(document, str(path), found) if document else None
    if found or document is None or config is None:
        raise _refuse(found, path)
    return Project(path.resolve().parent, config, _origins(document, config))


def assume(path: Path, text: str, *, sets: tuple[str, ...] = ()) -> Project:
    """Read `text` where there is no project file at `path`, overridden as `load` would.

    Raises:
        ConfigError: anything is wrong, or a project is in one of the folders above.
    """
    if any((folder / path.name).is_file() for folder in path.absolute().parents):
        raise _no_project(path)
    found: list[Found] = []
    document = parse(Source("the defaults", text, 0, "default"), found)
    assert document is not None, text
    document = _overridden(document, sets, found)
    config = _validate(document, "the defaults", found)
    if found or config is None:
        raise _refuse(found, path)
    return Project(path.resolve().parent, config, _origins(document, config))


def local_file(path: Path) -> Path:
    """Give the file beside `path` that holds what is true on this machine only."""
    return path.with_name(f"{path.stem}.local{path.suffix}")


def _no_project(path: Path) -> ConfigError:
    """Say where the project is, when it is one of the folders above."""
    above = [folder for folder in path.absolute().parents if (folder / path.name).is_file()]
    hint = (
        f"cd {shell.path(above[0])}" if above else "cd into a project, or type `mlstack init NAME`"
    )
    what = (
        f"`{path}` is a folder, not a project file"
        if path.is_dir()
        else f"there is no `{path}` here"
    )
    return ConfigError(what, hint=hint)


def _read(path: Path, sets: tuple[str, ...], found: list[Found]) -> Entry | None:
    document = layers.read_file(path, 0, found)
    beside = local_file(path)
    local = layers.read_file(beside, 1, found) if beside.is_file() else None
    if document is None:
        _settings(sets, found)  # what is wrong with them is said, too
        return None
    _check_version(document, path)
    if local:
        document = layers.overlay(document, local)
    return _overridden(document, sets, found)


def _overridden(document: Entry, sets: tuple[str, ...], found: list[Found]) -> Entry:
    for name, entry in _settings(sets, found):
        document = layers.put(document, name, entry)
    return document


def _settings(sets: tuple[str, ...], found: list[Found]) -> list[tuple[tuple[str, ...], Entry]]:
    return [
        *layers.read_environment(os.environ, 2, found),
        *layers.read_sets(sets, 3, found),
    ]


def _check_version(document: Entry, path: Path) -> None:
    """Refuse a file of a newer format before anything in it is called a mistake."""
    version = document.value.get("version")
    if version and isinstance(version.value, int) and version.value > VERSION:
        problem = f"this file is version {version.value}; installed mlstack reads up to {VERSION}"
        mistake = Mistake(
            problem,
            hint="pip install -U mlstack",
            where=version.at.where,
            excerpt=version.at.excerpt,
            key="version",
        )
        raise _refuse([Found(version.at.order, mistake)], path)


def _validate(document: Entry, file: str, found: list[Found]) -> Config | None:
    given = layers.plain(document)
    if not given:
        problem = "there are no settings; type `mlstack init NAME` and look at what it writes"
        found.append(Found((0, -1, 0), Mistake(problem, where=file)))
        return None
    # `train:` with nothing under it is an empty group.
    given = {k: {} if v is None and dotted.section_at((k,)) else v for k, v in given.items()}
    found.extend(mistakes.of_space(document))
    try:
        return Config.model_validate(given)
    except ValidationError as error:
        details = [dict(item) for item in error.errors(include_url=False)]
        found.extend(mistakes.from_pydantic(details, document, file))
        return None


def _refuse(found: list[Found], path: Path) -> ConfigError:
    ordered = sorted(found, key=lambda item: item.order)
    layers_of = sorted({item.order[0] for item in ordered})
    places = (str(path), str(local_file(path)), "the environment", "`--set`")
    return ConfigError(
        f"{counted(len(ordered), 'problem')} "
        f"in {' and '.join(places[layer] for layer in layers_of)}. Nothing was run.",
        mistakes=tuple(item.mistake for item in ordered),
    )


def _origins(document: Entry, config: Config) -> dict[str, str]:
    return {".".join(path): _origin(document, path) for path, _ in dotted.flatten(config)}


def _origin(entry: Entry, path: tuple[str, ...]) -> str:
    for part in path:
        inner = entry.value.get(part) if isinstance(entry.value, dict) else None
        if inner is None:
            return "default"
        entry = inner
    return entry.key_at.origin
