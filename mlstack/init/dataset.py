"""What a new project's data is, and the card that says where it comes from."""

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from mlstack import files
from mlstack.printable import printable
from mlstack.records.base import Record


@dataclass(frozen=True)
class Columns:
    """What the columns of the user's own table are."""

    label: str
    ignored: tuple[str, ...] = ()  # nothing is learned of them
    features: int = 0  # what a row becomes
    text: str = ""  # the column of the text, for texts
    length: int = 0  # tokens read of it


@dataclass(frozen=True)
class Dataset:
    """The images, or the rows of a table, that lie in a new project."""

    name: str
    labels: list[str]  # of the labeled ones
    images: int
    size_bytes: int
    image_size: int  # pixels of a side that the network sees
    channels: int
    own: bool  # the user's, not the template's
    unit: str = "images"  # or rows: what an example is
    columns: Columns | None = None  # of the user's own table
    others: dict[str, int] = field(default_factory=dict)  # what is no image: ending -> number

    @property
    def source(self) -> str:
        """The folder, relative to the project."""
        return f"data/{self.name}"

    @property
    def classes(self) -> list[str]:
        """The classes in order."""
        return sorted(set(self.labels))

    @property
    def largest_share(self) -> float:
        """Share of the most frequent class: what a model that looks at nothing reaches."""
        return max(Counter(self.labels).values()) / len(self.labels)


class Copied(Record, frozen=True, kw_only=True, tag="init.copied"):
    """How far the images are."""

    text: str
    done: int
    total: int


def write_card(folder: Path, dataset: Dataset, about: list[tuple[str, str]]) -> None:
    """Write `data/README.md`: what the data is, where it comes from, what may be done with it."""
    counts = Counter(dataset.labels)
    lines = [
        f"# {dataset.name}",
        "",
        f"{dataset.images:,} {dataset.unit}, {len(dataset.labels):,} of them labeled, "
        f"{len(counts)} classes.",
        "",
        *(f"- {word}: {value}" for word, value in about),
        "",
        f"| class | {dataset.unit} |",
        "|---|---|",
        *(f"| {_cell(name)} | {counts[name]} |" for name in sorted(counts)),
    ]
    files.write_text(folder / "data" / "README.md", "\n".join(lines) + "\n")


def _cell(name: str) -> str:
    """Show a name in a table of Markdown, whatever it holds."""
    return re.sub(r"([\\`*_<>|\[\]])", r"\\\1", printable(name))
