"""Replace single stages in the text of a dvc.yaml; every other byte stays as somebody wrote it."""

import io
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError

STEP = 2  # columns of indentation


@dataclass(frozen=True)
class Edit:
    """What is to become of the stages."""

    wanted: dict[str, Any]  # every stage of ours in its order
    changed: set[str]  # those of them that the text lacks, or has otherwise
    gone: set[str]  # stages to take out


def spliced(text: str, document: Any, edit: Edit) -> str:
    """Give the text with the stages of ours as they should be.

    A stage that the text has is replaced where it stands, a new one comes after the one of ours
    before it. Texts that are not laid out in blocks are written anew by ruamel.yaml, which keeps
    comments but not every space.

    Args:
        text: the file.
        document: the same as ruamel.yaml read it; it is changed.
        edit: what is to be done.
    """
    stages = document.get("stages")
    if "stages" in document:
        edited = _edited(text, stages, edit)
    else:
        edited = _whole(text) + dumped({"stages": edit.wanted})
    for name in edit.gone:
        del stages[name]
    if stages is None:
        document["stages"] = stages = CommentedMap()
    stages.update({name: edit.wanted[name] for name in edit.changed})
    return edited if edited is not None and _says(edited, document) else dumped(document)


def dumped(document: Any) -> str:
    """Write a document in blocks."""
    yaml = YAML()
    yaml.width = 100
    yaml.indent(mapping=STEP, sequence=2 * STEP, offset=STEP)
    text = io.StringIO()
    yaml.dump(document, text)
    return text.getvalue()


def on_one_line(value: Any) -> Any:
    """Have a mapping or list written as `{a: b}` or `[a, b]`."""
    made = CommentedMap(value) if isinstance(value, dict) else CommentedSeq(value)
    made.fa.set_flow_style()
    return made


def _edited(text: str, stages: Any, edit: Edit) -> str | None:
    if not isinstance(stages, CommentedMap) or not stages or stages.fa.flow_style():
        return None
    lines = _whole(text).splitlines(keepends=True)
    first = {name: stages.lc.key(name)[0] for name in stages}  # lines, from 0
    column = min(stages.lc.key(name)[1] for name in stages)
    after = {name: _end(lines, line, column) for name, line in first.items()}
    changes = [(first[name], after[name], "") for name in edit.gone]
    for name in (name for name in edit.wanted if name in edit.changed):
        block = _indented(dumped({name: edit.wanted[name]}), column)
        if name in first:
            changes.append((first[name], after[name], block))
        else:
            place = _place(lines, name, list(edit.wanted), (first, after))
            changes.append((place, place, block))
    # From the bottom up; at one place insert last, and the later stage first: it ends up below.
    ordered = sorted(reversed(changes), key=lambda change: (-change[0], change[0] == change[1]))
    for begin, end, block in ordered:
        lines[begin:end] = [block]
    return "".join(lines)


def _whole(text: str) -> str:
    return text if not text or text.endswith("\n") else f"{text}\n"


def _place(
    lines: list[str], name: str, order: list[str], there: tuple[dict[str, int], dict[str, int]]
) -> int:
    """Say before which line a new stage goes: after the one before it, else before the next."""
    first, after = there
    at = order.index(name)
    before = [other for other in order[:at] if other in first]
    if before:
        return after[before[-1]]
    following = [other for other in order[at:] if other in first]
    if not following:
        return max(after.values())
    line = first[following[0]]
    while lines[line - 1].lstrip().startswith("#"):  # what is said of the next stays above it
        line -= 1
    return line


def _end(lines: list[str], first: int, column: int) -> int:
    """Give the line after the last one of the stage that begins at `first`.

    Comments and blank lines after it are whoever comes next's.
    """
    last = first
    for number in range(first + 1, len(lines)):
        content = lines[number].strip()
        if not content or content.startswith("#"):
            continue
        if len(lines[number]) - len(lines[number].lstrip(" ")) <= column:
            break
        last = number
    return last + 1


def _indented(block: str, column: int) -> str:
    return "".join(f"{' ' * column}{line}" for line in block.splitlines(keepends=True))


def _says(text: str, document: Any) -> bool:
    """Tell whether a text means just what the document says."""
    try:
        return bool(YAML(typ="safe", pure=True).load(text) == document)
    except YAMLError:
        return False
