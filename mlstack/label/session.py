"""What the labeling server is started with, and what it says when it listens."""

import msgspec

from mlstack.records.base import Notice, Record

ADDRESS = "label-address.json"  # in .mlstack, while a server labels: its `Serving`
IMPORTER = "import"  # who gave the labels of `label import`
MAX_NAME = 64


def is_person(name: str) -> bool:
    """Tell whether a name can be that of somebody who labels in the page."""
    clean = name.strip()
    return 1 <= len(clean) <= MAX_NAME and clean.isprintable() and clean != IMPORTER


class ClassKeys(Record, frozen=True, kw_only=True, tag="label.class"):
    """A class and the keys that choose it."""

    name: str
    keys: list[str]


class Session(Record, frozen=True, kw_only=True, tag="label.session"):
    """`.mlstack/label-session.json`: everything the server needs, so that it reads no config."""

    project: str
    source: str  # absolute path of the dataset folder
    events: str  # absolute path of labels.db
    lock: str  # absolute path of the lock that one server holds
    annotator: str
    host: str
    port: int
    shared: bool = False
    seed: int
    overlap: float
    classes: list[ClassKeys]
    paths: list[str]
    known: dict[str, str] = msgspec.field(default_factory=dict)


class Serving(Notice, frozen=True, kw_only=True, tag="label.serving"):
    """The server listens."""

    url: str
    total: int
    remaining: int
    shared: bool = False
