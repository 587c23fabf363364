"""Make a project: look, build in a hidden folder beside, rename."""

import errno
import os
import shutil
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import msgspec
import psutil

import mlstack
from mlstack import files
from mlstack.config.schema import json_schema
from mlstack.config.suggest import resembling
from mlstack.errors import ConfigError, DataError, MachineError
from mlstack.init import catalog, imported, own_table, repository, sample, scaffold
from mlstack.init.dataset import Copied, Dataset
from mlstack.init.naming import Names, names_of
from mlstack.launch.git import git
from mlstack.records.base import Record, Result, write
from mlstack.records.layout import Layout
from mlstack.records.origin import ORIGIN, Origin

BUILDING = ".mlstack-init"
ORPHAN_S = 10  # how long git and dvc may go on without the init that started them


@dataclass(frozen=True)
class Wish:
    """What the user asked for."""

    target: Path
    template: str
    data: Path | None
    label: str  # the column of the class in `data`, where that is a table
    ci: str
    deploy: str


class Created(Result, frozen=True, kw_only=True, tag="init.created"):
    """A project that runs as it lies."""

    path: str
    template: str
    task: str
    images: int
    labeled: int
    classes: list[str]
    size_bytes: int
    files: list[str]  # the ones to look at first
    can_train: bool  # whether torch is installed
    label: str = ""  # the column of the class, in the user's own table
    text: str = ""  # that of the text
    ignored: tuple[str, ...] = ()  # those that nothing is learned of
    others: dict[str, int] = msgspec.field(default_factory=dict)  # no images: ending -> number

    def headline(self) -> str:
        """Give the project's folder."""
        return self.path


def refuse_overrides(config: Path, sets: tuple[str, ...]) -> None:
    """Refuse the options that speak of a project which is not there yet.

    Raises:
        ConfigError: --config or --set was given.
    """
    if sets or config != Path("mlstack.yaml"):
        raise ConfigError(
            f"init takes no `{'--set' if sets else '--config'}`",
            hint="make the project, then change its mlstack.yaml",
        )


def init(wish: Wish) -> Iterator[Record]:
    """Make the project that `wish` describes, whole or not at all.

    Raises:
        ConfigError: the target is taken, or there is no such template.
        DataError: what `--data` names is not what it should be.
    """
    template = catalog.find(wish.template)
    deploy = scaffold.deploy_kinds(wish.deploy)
    names = names_of(wish.target.resolve())
    _refuse(wish, template)
    git(Path.cwd(), "--version")
    copy = (yield from _own(wish.data, wish.label, template)) if wish.data else None
    with _built(wish.target) as folder:
        dataset = yield from (copy(folder) if copy else _unpack(template.data, folder))
        scaffold.write_project(folder, template, names, dataset)
        scaffold.write_ci(folder, wish.ci, names, dataset.source)
        scaffold.write_deploy(folder, deploy, names, dataset.source, template.task)
        yield Copied(text="git and dvc", done=dataset.images, total=dataset.images)
        repository.start(folder, dataset.source, f"start from the template {template.name}")
        _write_state(folder, wish)
    yield _created(wish, template, names, dataset)


def _own(
    data: Path, label: str, template: catalog.Template
) -> Generator[Copied, None, Callable[[Path], Generator[Copied, None, Dataset]]]:
    """Look at the user's own data; give what copies it into a project."""
    if isinstance(template.data, catalog.SampleTable):
        return partial(own_table.copy, own_table.find(data, label, template.task), template)
    return partial(imported.copy, (yield from imported.survey(data)))


def _unpack(
    data: catalog.SampleData | catalog.SampleTable, folder: Path
) -> Generator[Copied, None, Dataset]:
    if isinstance(data, catalog.SampleTable):
        return (yield from sample.unpack_table(data, folder))
    return (yield from sample.unpack(data, folder))


def _refuse(wish: Wish, template: catalog.Template) -> None:
    target = wish.target
    if target.resolve() == Path.cwd():
        raise ConfigError(f"`{target}` is the folder you are in", hint="name one to make")
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise ConfigError(f"`{target}` is there already", hint="choose another name")
    if target.is_dir() and any(target.iterdir()):
        raise ConfigError(f"`{target}` is there already and not empty", hint="choose another name")
    if wish.data and wish.template == "bare":
        raise ConfigError(
            "the template `bare` reads its own data", hint="leave out --data or --template"
        )
    reads_table = isinstance(template.data, catalog.SampleTable)
    if wish.data and not (wish.data.is_dir() or wish.data.is_file()):
        _refuse_absent(wish.data, reads_table=reads_table)
    if wish.data and wish.data.is_file() and not reads_table:
        raise ConfigError(
            f"`{wish.data}` is a file; --data copies a folder of images",
            hint="name the folder; for a table say --template tabular or text-classification, too",
        )
    if wish.label and not (wish.data and reads_table):
        raise ConfigError(
            "--label names a column of your own table",
            hint="say --data TABLE and --template tabular or text-classification, too",
        )


def _refuse_absent(data: Path, *, reads_table: bool) -> None:
    """Say what of `--data` is missing, what is there that is called so, and what it takes."""
    missing = next((one for one in reversed(data.parents) if not one.is_dir()), data)
    beside = {one.name for one in missing.parent.iterdir()} if missing.parent.is_dir() else set()
    meant = resembling(missing.name, beside - {missing.name})
    takes = "a folder of images, with a folder per class or with labels.csv"
    if reads_table:
        takes = "a table (CSV or Parquet), or its folder"
    elif data.suffix.lower() in own_table.SUFFIXES:
        takes += "; for a table say --template tabular or text-classification, too"
    raise DataError(
        f"--data: there is no file or folder `{data}`"
        + (f", nor a folder `{missing}`" if missing != data else ""),
        hint=f"did you mean `{missing.parent / meant}`?" if meant else f"name {takes}",
    )


@contextmanager
def _built(target: Path) -> Generator[Path, None, None]:
    """Give a hidden folder that becomes `target` at the end; what a killed init left is removed."""
    parent = target.resolve().parent
    _sweep(parent)
    folder = parent / f"{BUILDING}.{os.getpid()}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise MachineError(
            f"cannot make a folder in `{parent}`: {error.strerror}", hint="choose another place"
        ) from error
    try:
        yield folder
        files.move(folder, target)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise MachineError(
            f"the disk is full; `{target}` was not made", hint="free some space"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(parent: Path) -> None:
    for left in parent.glob(f"{BUILDING}.*"):
        pid = left.suffix.removeprefix(".")
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            _remove(left)


def _remove(folder: Path) -> None:
    """Remove a killed init's folder, also while the git or dvc that it started still writes."""
    until = time.monotonic() + ORPHAN_S
    while folder.exists() and time.monotonic() < until:
        shutil.rmtree(folder, ignore_errors=True)


def _write_state(folder: Path, wish: Wish) -> None:
    state = Layout(folder).state
    files.write_bytes(state / "schema.json", json_schema())
    origin = Origin(
        template=wish.template,
        mlstack=mlstack.__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        data=str(wish.data.resolve()) if wish.data else "",
    )
    write(state / ORIGIN, origin)


def _created(wish: Wish, template: catalog.Template, names: Names, dataset: Dataset) -> Created:
    shown = [
        "mlstack.yaml",
        f"{names.package}/model.py",
        f"{names.package}/data.py",
        f"{dataset.source}/",
        "tests/",
    ]
    shown += [scaffold.CI_FILES[wish.ci]] if wish.ci in scaffold.CI_FILES else []
    kinds = scaffold.deploy_kinds(wish.deploy)
    shown += [f"deploy/{file}" for kind in kinds for file in scaffold.DEPLOY_FILES[kind]]
    columns = dataset.columns
    return Created(
        path=str(wish.target),
        template=template.name,
        task=template.task,
        images=dataset.images,
        labeled=len(dataset.labels),
        classes=dataset.classes,
        size_bytes=dataset.size_bytes,
        files=shown,
        can_train=find_spec("torch") is not None,
        label=columns.label if columns else "",
        text=columns.text if columns else "",
        ignored=columns.ignored if columns else (),
        others=dataset.others,
    )
