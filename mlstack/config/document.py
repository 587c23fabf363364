"""YAML text -> entries that know where they stand, so that every mistake can be pointed at."""

from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from mlstack.errors import Mistake

EXCERPT_CHARS = 100


@dataclass(frozen=True)
class Place:
    """Where something stands: what a message shows, and its order among all places."""

    where: str
    order: tuple[int, int, int] = (0, 0, 0)
    excerpt: str = ""
    origin: str = ""


@dataclass(frozen=True)
class Entry:
    """A value with its place and that of its key."""

    value: Any  # a scalar, dict[str, Entry] or list[Entry]
    at: Place
    key_at: Place


@dataclass(frozen=True)
class Found:
    """A mistake and its order."""

    order: tuple[int, int, int]
    mistake: Mistake


@dataclass(frozen=True)
class Source:
    """A text with settings: a file, or the value of one variable or flag."""

    name: str
    text: str
    layer: int
    origin: str
    fixed: Place | None = None  # of a variable or flag, which has no lines

    def place(self, line: int, column: int, length: int = 1) -> Place:
        """Point at `length` characters; line and column count from 0."""
        if self.fixed:
            return self.fixed
        return Place(
            where=f"{self.name}:{line + 1}:{column + 1}",
            order=(self.layer, line, column),
            excerpt=self._excerpt(line, column, length),
            origin=f"{self.origin}:{line + 1}",
        )

    def start(self) -> Place:
        """Point at the text as a whole."""
        return self.fixed or Place(self.name, (self.layer, -1, 0), "", self.origin)

    def _excerpt(self, line: int, column: int, length: int) -> str:
        lines = self.text.splitlines()
        if line >= len(lines) or column > EXCERPT_CHARS - 10:
            return ""
        shown = lines[line].replace("\t", " ")[:EXCERPT_CHARS]
        length = max(1, min(length, len(shown) - column))
        margin = " " * len(str(line + 1))
        return f"  {line + 1} | {shown.rstrip()}\n  {margin} | {' ' * column}{'^' * length}"


def parse(source: Source, found: list[Found]) -> Entry | None:
    """Read one YAML document; None when its syntax is broken. What is wrong joins `found`."""
    yaml = YAML(typ="safe", pure=True)
    try:
        node = yaml.compose(source.text)
        if node is None:
            return Entry(None, source.start(), source.start())
        return _Reader(source, yaml.constructor, found).entry(node, source.start())
    except YAMLError as error:
        place, words = _syntax(source, error)
        found.append(Found(place.order, Mistake(words, where=place.where, excerpt=place.excerpt)))
    except RecursionError:
        place = source.start()
        found.append(Found(place.order, Mistake("YAML: nested too deeply", where=place.where)))
    return None


@dataclass
class _Reader:
    source: Source
    constructor: Any
    found: list[Found]

    def entry(self, node: Node, key_at: Place) -> Entry:
        at = self._place(node)
        match node:
            case MappingNode():
                return Entry(self._mapping(node), at, key_at)
            case SequenceNode():
                items = [self.entry(item, self._place(item)) for item in node.value]
                return Entry(items, at, key_at)
            case _:
                value = self._value(node)
                return Entry(
                    self._whole(value, at) if isinstance(value, str) else value, at, key_at
                )

    def _value(self, node: Node) -> object:
        """Read one value; what looks like a date or a number and is none is a text."""
        try:
            return self.constructor.construct_object(node, deep=True)
        except (ValueError, LookupError):
            return str(node.value)

    def _whole(self, text: str, at: Place) -> str:
        """Join the two halves that JSON writes a rare character as, e.g. an emoji."""
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            problem = "holds one half of a character; write the character itself"
            self.found.append(Found(at.order, Mistake(problem, where=at.where, excerpt=at.excerpt)))
            return text.encode(errors="replace").decode()

    def _mapping(self, node: MappingNode) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        for key_node, value_node in node.value:
            place = self._place(key_node)
            name = key_node.value if isinstance(key_node, ScalarNode) else "[...]"
            if name in entries:
                first = entries[name].key_at
                problem = f'"{name}" is here twice; the first is at {first.where}'
                mistake = Mistake(problem, where=place.where, excerpt=place.excerpt, key=name)
                self.found.append(Found(place.order, mistake))
            else:
                entries[name] = self.entry(value_node, place)
        return entries

    def _place(self, node: Node) -> Place:
        start, end = node.start_mark, node.end_mark
        # The mark of a block ends on a later line; its first line is enough to find it.
        length = end.column - start.column if end.line == start.line else EXCERPT_CHARS
        return self.source.place(start.line, start.column, length)


def _syntax(source: Source, error: YAMLError) -> tuple[Place, str]:
    if not isinstance(error, MarkedYAMLError):  # a character that YAML does not allow
        return source.start(), f"YAML: {str(error).splitlines()[0]}"
    words = str(error.problem or error.context or "cannot be read")
    mark = error.problem_mark or error.context_mark
    if "\\t" in words:
        words += "; indent with spaces"
    elif "mapping values are not allowed" in words:
        words += '; a text with ": " in it needs quotes, and a setting starts its own line'
    elif "could not find expected ':'" in words:
        words += "; is there a space after the colon of the line above?"
    place = source.place(mark.line, mark.column) if mark else source.start()
    return place, f"YAML: {words}"
