"""The versions of a dataset: what its pointer said in each commit."""

from dataclasses import dataclass
from pathlib import Path

from mlstack.config import Project
from mlstack.errors import ConfigError, DataError, StepError
from mlstack.inputs.tasks import reads_rows
from mlstack.launch.git import git, head, is_repository
from mlstack.records import dvc
from mlstack.records.layout import Layout


@dataclass(frozen=True)
class Dataset:
    """The dataset of a project."""

    root: Path
    source: str  # relative to the project
    label: str | None = None  # of a table: the column that holds the class
    layout: str = "files"  # how the next snapshot keeps it

    @property
    def kept(self) -> "Dataset":
        """What DVC keeps of it from the next snapshot on: itself, or a folder made of it."""
        return Dataset(self.root, self.source + dvc.SUFFIXES[self.layout])

    def kept_of(self, version: dvc.Pointer) -> "Dataset":
        """Give what DVC keeps of it in a version.

        Raises:
            DataError: the pointer names a folder of another dataset.
        """
        if version.stored is None:
            return Dataset(self.root, self.source)
        made = [self.folder.with_name(path.stem) for path in self.pointers()[1:]]
        if version.stored.name not in [folder.name for folder in made]:
            raise DataError(
                f"`{self.source}.dvc` names `{version.stored.name}`, which is not made of it",
                hint="type `mlstack version snapshot -m MESSAGE` to write it anew",
            )
        return Dataset(self.root, Path(self.source).with_name(version.stored.name).as_posix())

    @property
    def folder(self) -> Path:
        """The files."""
        return self.root / self.source

    @property
    def name(self) -> str:
        """Its name."""
        return self.folder.name

    @property
    def index(self) -> Path:
        """What is remembered of the files."""
        return Layout(self.root).index(self.source)

    @property
    def noted(self) -> Path:
        """Where it is noted which version the cache holds."""
        return self.index.with_suffix(".kept")

    @property
    def pointer(self) -> Path:
        """The `.dvc` file; the plain one where there is none yet."""
        return dvc.pointer_path(self.folder)

    def pointers(self) -> list[Path]:
        """List the `.dvc` files that it may have, those that are not there too."""
        folder = self.folder
        return [folder.with_name(f"{folder.name}{one}.dvc") for one in dvc.SUFFIXES.values()]

    def has_plain_pointer(self) -> bool:
        """Tell whether the pointer, if there is one, says no more than mlstack would write."""
        if not dvc.is_plain_name(self.name):
            return False
        if not self.pointer.is_file():
            return True
        text = self.pointer.read_text(errors="surrogateescape")
        name = self.pointer.name.removesuffix(".dvc")
        try:
            return text == dvc.plain_pointer(name, dvc.parse_pointer(text, where=""))
        except DataError:
            return False


@dataclass(frozen=True)
class Version:
    """One commit that changed the pointer."""

    revision: str
    date: str
    author: str
    message: str
    pointer: dvc.Pointer


def dataset_of(project: Project) -> Dataset:
    """Find the dataset of a project that keeps versions in git.

    Raises:
        ConfigError: versioning is off, the project is not in a git repository, or the source lies
            outside it.
    """
    if project.config.versioning.backend == "none":
        raise ConfigError("versioning.backend is `none`", hint="set it to `dvc` in mlstack.yaml")
    if not _in_repository(project.root):
        raise ConfigError(
            f"`{project.root}` is not in a git repository", hint="type `git init`, then try again"
        )
    source = Path(project.config.data.folder)
    if source.is_absolute() or ".." in source.parts or not source.parts:
        raise ConfigError(
            f"data.source: `{source}` is not a folder of the project",
            hint="move it below the project, e.g. to data/NAME",
        )
    layout = project.config.versioning.layout
    return Dataset(project.root, source.as_posix(), label_column(project), layout)


def _in_repository(root: Path) -> bool:
    """Tell whether git keeps the project; asked only where no `.git` is in sight."""
    if any((folder / ".git").exists() for folder in (root, *root.parents)):
        return True
    git(root, "--version")  # git that is not installed is another lack
    return is_repository(root)


def label_column(project: Project) -> str | None:
    """Name the column of the labels where the data is a table; None where it is files."""
    config = project.config
    return config.data.label if reads_rows(config.project.task) else None


def versions(
    dataset: Dataset, *, everywhere: bool = False, limit: int | None = None
) -> list[Version]:
    """List the versions from HEAD, or from every branch and tag, newest first."""
    where = ["--all"] if everywhere else []
    pointers = [str(path) for path in dataset.pointers()]
    try:
        told = git(
            dataset.root, "log", "-z", *where, "--format=%H%x1f%cI%x1f%an%x1f%s", "--", *pointers
        )
    except StepError:  # no commit yet
        return []
    found: list[Version] = []
    for line in filter(None, told.split("\0")):
        if len(found) == limit:
            break
        revision, date, author, message = line.split("\x1f", 3)
        if (content := _stored(dataset, revision)) is not None:
            at = dvc.parse_pointer(content, where=f"{revision[:7]}:{dataset.source}.dvc")
            found.append(Version(revision, date, author, message, at))
    return found


def resolve(dataset: Dataset, revision: str) -> str:
    """Turn a branch, tag or part of a hash into a commit.

    Raises:
        ConfigError: git does not know it.
        DataError: there is no commit yet.
    """
    try:
        return git(
            dataset.root, "rev-parse", "--verify", "--quiet", "--end-of-options", revision + "^0"
        ).strip()
    except StepError as error:
        if head(dataset.root) is None:
            raise nothing_yet() from error
        raise ConfigError(
            f"git knows no revision `{revision}`", hint="type `mlstack version log`"
        ) from error


def nothing_yet() -> DataError:
    """Give the error of a project without a version."""
    return DataError(
        "no data has been snapshotted here yet",
        hint='type `mlstack version snapshot -m "first data"`',
    )


def pointer_text(dataset: Dataset, revision: str) -> str:
    """Give the pointer as a commit holds it.

    Raises:
        DataError: that commit has no version of the dataset.
    """
    content = _stored(dataset, revision)
    if content is None:
        raise DataError(
            f"`{revision[:12]}` holds no version of `{dataset.source}`",
            hint="type `mlstack version log`",
        )
    return content


def _stored(dataset: Dataset, revision: str) -> str | None:
    above = Path(dataset.source).parent
    likely = dataset.pointer  # one that is here is most often that of the revision too
    for path in sorted(dataset.pointers(), key=lambda path: path != likely):
        try:
            return git(dataset.root, "show", f"{revision}:./{(above / path.name).as_posix()}")
        except StepError:
            continue
    return None
