"""The file that `gates.functionality` names: JSON lines of `{"file", "label"}`."""

from pathlib import Path

import msgspec

from mlstack.config import Project
from mlstack.errors import ConfigError, DataError
from mlstack.export.handover import Expected


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line, as a person writes it."""

    file: str
    label: str


def read(project: Project) -> list[Expected]:
    """Read the golden examples that the project names; an empty list when it names none.

    Raises:
        ConfigError: the file that the setting names is not there.
        DataError: a line is wrong, or names a file that is not there; the line is named.
    """
    named = project.config.gates.functionality
    if named is None:
        return []
    path = project.root / named
    if not path.is_file():
        raise ConfigError(
            f"gates.functionality: there is no file `{named}`",
            hint='write it, one {"file": ..., "label": ...} a line',
        )
    lines = path.read_bytes().splitlines()
    found = [
        _read_line(line, f"{named}:{number}", project.root)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not found:
        raise DataError(
            f"`{named}` is empty", hint="name at least one example, or the gate is void"
        )
    return found


def _read_line(content: bytes, where: str, root: Path) -> Expected:
    try:
        line = msgspec.json.decode(content, type=Line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(
            f"{where}: {error}", hint='a line is {"file": "path/in/the/project", "label": "cat"}'
        ) from error
    if not (root / line.file).is_file():
        raise DataError(f"{where}: there is no file `{line.file}`")
    return Expected(file=line.file, label=line.label)
