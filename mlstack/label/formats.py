"""Labels as other tools write them: CSV, JSON lines (Prodigy's, too) and Label Studio's JSON."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from mlstack.errors import ConfigError, DataError
from mlstack.inputs.folders import reader_of, refuse_columns
from mlstack.label.names import Format

FILES = {
    Format.CSV: "labels.csv",
    Format.JSONL: "labels.jsonl",
    Format.LABEL_STUDIO: "labels.label-studio.json",
}
LINE_HINT = 'write a line as {"path": "a.png", "label": "cat"}, or as Prodigy does'


@dataclass(frozen=True)
class Row:
    """A label as it was found, and where."""

    where: str
    path: str
    label: str
    is_foreign: bool = False  # the path is as another tool writes it


def read(file: Path) -> tuple[Format, list[Row]]:
    """Read the labels of a file; its ending says the format.

    Raises:
        ConfigError: there is no such file, or its ending is none that is known.
        DataError: the file cannot be read or is not of that format; the line is named.
    """
    readers = {".csv": Format.CSV, ".jsonl": Format.JSONL, ".json": Format.LABEL_STUDIO}
    kind = readers.get(file.suffix.lower())
    if kind is None:
        raise ConfigError(
            f"`{file}`: the ending must be .csv, .jsonl or .json (Label Studio)",
            hint="rename the file after what it holds",
        )
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no file `{file}`", hint="give the path of the file that holds the labels"
        ) from error
    except OSError as error:
        raise DataError(f"cannot read `{file}`: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"`{file}` is not UTF-8 text") from error
    rows = {Format.CSV: _csv, Format.JSONL: _jsonl, Format.LABEL_STUDIO: _label_studio}
    return kind, list(rows[kind](file, text))


def write(kind: Format, labels: dict[str, str]) -> bytes:
    """Write labels as text; Parquet is not text and not written here."""
    if kind is Format.CSV:
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["path", "label"])
        writer.writerows(labels.items())
        return out.getvalue().encode()
    if kind is Format.JSONL:
        lines = [msgspec.json.encode({"path": p, "label": label}) for p, label in labels.items()]
        return b"".join(line + b"\n" for line in lines)
    tasks = [_as_task(number, *item) for number, item in enumerate(labels.items(), start=1)]
    return msgspec.json.format(msgspec.json.encode(tasks), indent=1) + b"\n"


def candidates(path: str) -> Iterator[str]:
    """Give the names that a path from another tool may have in the dataset, longest first.

    Label Studio writes `/data/local-files/?d=digits/images/1.png`; other tools absolute paths.
    """
    parts = urlsplit(path)
    inner = parse_qs(parts.query).get("d")
    plain = inner[0] if inner else unquote(parts.path) if parts.scheme else path
    names = [name for name in plain.replace("\\", "/").split("/") if name not in ("", ".")]
    for start in range(len(names)):
        yield "/".join(names[start:])


def _csv(file: Path, text: str) -> Iterator[Row]:
    reader = reader_of(io.StringIO(text, newline=""), strict=True)
    try:
        refuse_columns(file, reader)
        for row in reader:
            where = f"{file}:{reader.line_num}"
            yield Row(where, row["path"] or "", (row["label"] or "").strip())
    except csv.Error as error:
        raise DataError(f"{file}:{reader.line_num}: not CSV: {error}") from error


class _Line(msgspec.Struct):
    """A line of our own, or of Prodigy: `image`, and `label` or `accept`."""

    path: str | None = None
    image: str | None = None
    label: str | None = None
    accept: list[str] = []
    answer: str = "accept"

    @property
    def labels(self) -> list[str]:
        """The label, or what was chosen; nothing where the answer was no, or to ignore it."""
        given = [self.label] if self.label is not None else self.accept
        return given if self.answer == "accept" else []


def _jsonl(file: Path, text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{file}:{number}"
        try:
            found = msgspec.json.decode(line, type=_Line)
        except msgspec.DecodeError as error:
            raise DataError(f"{where}: {error}", hint=LINE_HINT) from error
        path = found.path if found.path is not None else found.image
        if path is None or (found.label is None and not found.accept and found.answer == "accept"):
            lacks = "path" if path is None else "label"
            raise DataError(f"{where}: has no `{lacks}`", hint=LINE_HINT)
        yield from (Row(where, path, label, found.path is None) for label in found.labels)


class _Data(msgspec.Struct):
    image: str


class _Value(msgspec.Struct):
    choices: list[str] = []


class _Answer(msgspec.Struct):
    value: _Value = msgspec.field(default_factory=_Value)


class _Annotation(msgspec.Struct):
    result: list[_Answer] = []
    was_cancelled: bool = False


class _Task(msgspec.Struct):
    """A task of Label Studio's JSON export, or a row of its JSON_MIN."""

    data: _Data | None = None
    annotations: list[_Annotation] = []
    image: str | None = None
    choice: str | None = None


def _label_studio(file: Path, text: str) -> Iterator[Row]:
    try:
        tasks = msgspec.json.decode(text, type=list[_Task])
    except msgspec.DecodeError as error:
        raise DataError(
            f"`{file}` is not a list of tasks as Label Studio exports it: {error}",
            hint="export it as JSON or JSON_MIN",
        ) from error
    for number, task in enumerate(tasks, start=1):
        path = task.data.image if task.data else task.image
        if path is None:
            raise DataError(f"{file}: task {number} has no `data.image`")
        yield from (Row(f"{file}: task {number}", path, label, True) for label in _choices(task))


def _choices(task: _Task) -> Iterator[str]:
    if task.choice is not None:
        yield task.choice
    for annotation in task.annotations:
        if not annotation.was_cancelled:
            for result in annotation.result:
                yield from result.value.choices


def _as_task(number: int, path: str, label: str) -> dict[str, Any]:
    return {
        "id": number,
        "data": {"image": path},
        "annotations": [
            {
                "result": [
                    {
                        "from_name": "choice",
                        "to_name": "image",
                        "type": "choices",
                        "value": {"choices": [label]},
                    }
                ]
            }
        ],
    }
