"""DVC's cache: what nothing needs any more, and what is damaged."""

from collections.abc import Iterator
from pathlib import Path

from mlstack import files
from mlstack.config import Project
from mlstack.errors import ConfigError, DataError, Mistake
from mlstack.records import dvc
from mlstack.records.base import Record, read
from mlstack.records.layout import Layout
from mlstack.records.lineage import Lineage
from mlstack.records.package import SIDE, numbers
from mlstack.records.run import SPEC, RunSpec, run_ids
from mlstack.ui import is_terminal
from mlstack.version import content, history, stock
from mlstack.version.api import hold
from mlstack.version.history import Dataset, dataset_of
from mlstack.version.result import Collected, Counted, Verified


def gc(project: Project, *, history_too: bool, yes: bool) -> Collected:
    """Find, and with `yes` delete, cached objects that no version, run or package needs.

    Args:
        project: the project.
        history_too: also free versions that only older commits name; branches, tags, the working
            tree, runs and packages always keep theirs.
        yes: delete.

    Raises:
        ConfigError: there is something to delete, nobody can be asked, and `yes` is not given; or
            the cache lies outside the project.
    """
    data = dataset_of(project)
    with hold(project.root):
        cache = stock.cache_folder(data.root)
        _refuse_shared(cache, data.root)
        keep = stock.bridge().used_objects(data.root, history=not history_too)
        for md5 in _recorded(project):
            keep.update({md5, *_files_of(cache, md5)})
        spare = sorted(
            (path for path in _objects(cache) if _name(path) not in keep),
            key=lambda path: not path.name.endswith(".dir"),  # lists first: none names the gone
        )
        size = sum(path.stat().st_size for path in spare)
        if spare and not yes and not is_terminal():
            raise ConfigError(
                f"nothing was deleted; {len(spare)} objects with {size} bytes could be",
                hint="repeat with --yes to delete them",
            )
        for path in spare if yes else ():
            path.unlink()
        return Collected(objects=len(spare), size_bytes=size, kept=len(keep), deleted=yes)


def verify(project: Project) -> Iterator[Record]:
    """Hash every cached object of every version again.

    Raises:
        DataError: an object is damaged, or the current version is not whole; each is named.
    """
    data = dataset_of(project)
    cache = stock.cache_folder(data.root)
    current = dvc.read_pointer(data.pointer)
    found = {v.pointer.md5: v.revision[:7] for v in history.versions(data, everywhere=True)}
    if current:
        found.setdefault(current.md5, "working tree")
    wanted: dict[str, str] = {}  # MD5 -> what it is, for people
    for md5, revision in found.items():
        wanted[md5] = f"list of files of version {revision}"
        wanted.update((m, path) for path, m in _files_of(cache, md5).items())
    damaged: list[Mistake] = []
    present = [(m, what) for m, what in wanted.items() if content.object_path(cache, m).is_file()]
    for position, (md5, what) in enumerate(present):
        if position % 100 == 0:
            yield Counted(text="hashing", done=position, total=len(present))
        damaged.extend(_damage(content.object_path(cache, md5), what))
    damaged.extend(_not_whole(cache, data, current))
    if damaged:
        raise DataError(
            f"{len(damaged)} of {len(wanted)} objects are damaged or missing",
            hint="remove the damaged ones, then type `mlstack version pull`",
            mistakes=tuple(damaged),
        )
    yield Verified(
        versions=len(found),
        objects=len(present),
        size_bytes=sum(content.object_path(cache, m).stat().st_size for m, _ in present),
        absent=len(wanted) - len(present),
    )


def _refuse_shared(cache: Path, root: Path) -> None:
    """Refuse a cache outside the project: other projects may keep their data there."""
    if not any((above / ".dvc") in cache.parents for above in (root, *root.parents)):
        raise ConfigError(
            f"the cache `{cache}` may be shared with other projects; nothing was deleted",
            hint="type `dvc gc --all-commits --projects OTHER_PROJECT ...`",
        )


def _damage(path: Path, what: str) -> list[Mistake]:
    if files.md5(path) == _name(path).removesuffix(".dir"):
        return []
    return [Mistake(f"`{what}` is damaged in the cache", f"type `rm -f {path}`", str(path))]


def _not_whole(cache: Path, data: Dataset, current: dvc.Pointer | None) -> list[Mistake]:
    if current is None:
        return []
    wanted = {current.md5: f"list of files of {data.source}"} | {
        md5: path for path, md5 in _files_of(cache, current.md5).items()
    }
    return [
        Mistake(f"`{what}` of the current version is not in the cache", where=data.source)
        for md5, what in wanted.items()
        if not content.object_path(cache, md5).is_file()
    ]


def _files_of(cache: Path, md5: str) -> dict[str, str]:
    try:
        return content.of_version(cache, md5, "").entries
    except DataError:  # not here, or damaged: then it is named by its own hash
        return {}


def _recorded(project: Project) -> set[str]:
    """List the data of every run and package; a record that cannot be read stops the gc."""
    layout = Layout(project.root)
    found = {read(layout.run(i) / SPEC, RunSpec).dataset.md5 for i in run_ids(layout.runs)}
    for model in layout.models.iterdir() if layout.models.is_dir() else ():
        for number in numbers(model):
            path = model / str(number) / SIDE / "lineage.json"
            if path.is_file():
                found.add(read(path, Lineage).dataset.md5)
    return found


def _objects(cache: Path) -> Iterator[Path]:
    for folder in sorted(cache.iterdir()) if cache.is_dir() else ():
        if len(folder.name) == 2 and folder.is_dir():
            yield from sorted(path for path in folder.iterdir() if path.is_file())


def _name(path: Path) -> str:
    return path.parent.name + path.name
