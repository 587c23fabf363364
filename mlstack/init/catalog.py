"""Find the templates: in the wheel, or beside the package in a checkout."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

import mlstack
from mlstack.errors import ConfigError
from mlstack.inputs.tasks import reads_rows

MANIFEST = "template.toml"


@dataclass(frozen=True)
class SampleData:
    """Real images that ship inside a template as one sheet of tiles."""

    name: str
    sheet: Path
    labels: Path  # one character a tile
    tile: int  # pixels of a side
    unlabeled: int  # the last ones, left for `mlstack label`
    origin: str
    source: str
    licence: str


@dataclass(frozen=True)
class SampleTable:
    """A real table that ships inside a template."""

    name: str
    sheet: Path  # CSV, gzipped; one example a row
    label: str  # the column of the classes
    origin: str
    source: str
    licence: str


@dataclass(frozen=True)
class Template:
    """A project that runs as it lies."""

    name: str
    folder: Path
    title: str
    task: str
    data: SampleData | SampleTable


def root() -> Path:
    """Give the folder that holds the templates."""
    package = Path(mlstack.__file__).parent
    inside = package / "_templates"
    return inside if inside.is_dir() else package.parent / "templates"


def names() -> list[str]:
    """List the templates there are."""
    return sorted(path.parent.name for path in root().glob(f"*/{MANIFEST}"))


def find(name: str) -> Template:
    """Read a template.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in names():
        raise ConfigError(
            f"there is no template `{name}`", hint=f"the templates are {', '.join(names())}"
        )
    folder = root() / name
    stored = tomllib.loads((folder / MANIFEST).read_text())
    data = stored["data"]
    sheet = (folder / data.pop("sheet")).resolve()
    sample: SampleData | SampleTable
    if reads_rows(stored["task"]):
        sample = SampleTable(sheet=sheet, **data)
    else:
        labels = (folder / data.pop("labels")).resolve()
        sample = SampleData(sheet=sheet, labels=labels, **data)
    return Template(name, folder, stored["title"], stored["task"], sample)
