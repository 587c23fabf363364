"""The patterns of `.dvcignore` files above a dataset, matched as DVC matches them (dvc.ignore)."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from mlstack.errors import DataError

NAME = ".dvcignore"


@dataclass(frozen=True)
class Rule:
    """One pattern; the last one that matches decides."""

    base: str  # path of the dataset from the folder of the `.dvcignore`, with a slash at its end
    pattern: re.Pattern[str]
    hides: bool  # false for one that begins with `!`
    only_folders: bool


@dataclass(frozen=True)
class Ignores:
    """All rules that hold in a dataset, the outermost file's first."""

    rules: tuple[Rule, ...]

    def hide(self, path: str, *, is_folder: bool) -> bool:
        """Tell whether a file or folder is hidden; those above it are not.

        Args:
            path: its path in the dataset.
            is_folder: what it is.
        """
        for rule in reversed(self.rules):
            if rule.only_folders and not is_folder:
                continue
            full = rule.base + path
            if rule.pattern.match(full) or (is_folder and rule.pattern.match(f"{full}/")):
                return rule.hides
        return False


def read_ignores(folder: Path) -> Ignores | None:
    """Read the patterns that hold in a dataset; None where there are none.

    Args:
        folder: the dataset. What lies in it cannot have patterns: DVC refuses that.

    Raises:
        DataError: the dataset itself is hidden, or a file cannot be read.
    """
    rules: list[Rule] = []
    place = folder.resolve()
    for above in reversed(_folders_above(place)):
        rules += _rules(above / NAME, f"{place.relative_to(above).as_posix()}/")
    if not rules:
        return None
    ignores = Ignores(tuple(rules))
    _refuse_hidden(folder, ignores)
    return ignores


def _folders_above(place: Path) -> list[Path]:
    """List the folders from the dataset's own up to the one that holds `.dvc`."""
    found = []
    for above in place.parents:
        found.append(above)
        if (above / ".dvc").is_dir():
            return found
    return []


def _rules(path: Path, base: str) -> list[Rule]:
    if not path.is_file():
        return []
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(f"`{path}` is not text in UTF-8", hint="write it anew") from error
    patterns = [line for line in lines if line and not line.startswith("#")]
    if not patterns:
        return []
    from pathspec.patterns.gitignore.spec import (  # noqa: PLC0415  60 ms; few have patterns
        GitIgnoreSpecPattern,
    )

    rules = []
    for line in patterns:
        regex, hides = GitIgnoreSpecPattern.pattern_to_regex(line)
        if regex is not None and hides is not None:
            rules.append(Rule(base, re.compile(regex), hides, line.endswith("/")))
    return rules


def _refuse_hidden(folder: Path, ignores: Ignores) -> None:
    """Refuse a dataset that DVC would not see at all."""
    for base in {rule.base for rule in ignores.rules}:
        own = Ignores(tuple(replace(rule, base="") for rule in ignores.rules if rule.base == base))
        parts = base.rstrip("/").split("/")
        for depth in range(1, len(parts) + 1):
            if own.hide("/".join(parts[:depth]), is_folder=True):
                raise DataError(
                    f"a pattern in a `{NAME}` above `{folder}` hides all of it from DVC",
                    hint="remove the pattern, or move the data",
                )
