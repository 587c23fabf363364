"""What pydantic finds wrong -> mistakes that name the place and the thing to type."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from mlstack.config import dotted, suggest
from mlstack.config.document import Entry, Found
from mlstack.config.kinds import PATTERNS
from mlstack.config.layers import SPACE
from mlstack.config.train_sections import DIMENSIONS
from mlstack.errors import Mistake

Path = tuple[str | int, ...]
Details = dict[str, Any]

VALUE_CHARS = 40
TAGS = frozenset(kind.__name__ for kind in DIMENSIONS.values())


def from_pydantic(errors: list[Details], root: Entry, file: str) -> Iterator[Found]:
    """Turn the errors of one validation into mistakes, each union reported once.

    Args:
        errors: what `ValidationError.errors()` gives.
        root: the document that was validated.
        file: name of the project file, for what is missing altogether.
    """
    unions: set[Path] = set()
    for error in errors:
        path, entry, rest = _walk(root, error["loc"])
        if error["type"] == "missing":
            yield _missing(path, entry, str(rest[-1]), file)
        elif rest:  # pydantic tried every branch of a union
            if path not in unions:
                yield _at(path, entry, _no_branch(path, entry))
            unions.add(path)
        elif error["type"] == "extra_forbidden":
            yield _at(path, entry, _unknown(path), key_is_wrong=True)
        else:
            yield _at(path, entry, _wrong(error, path, entry))


def of_space(root: Entry) -> Iterator[Found]:
    """Find what `tune.space` would search that is no setting."""
    space = _walk(root, SPACE)
    if space[2] or not isinstance(space[1].value, dict):
        return
    known = dotted.all_names()
    for name, entry in space[1].value.items():
        if name not in known and not name.startswith(dotted.FREE):
            words = f'"{name}" is not a setting{suggest.searched(name, known, dotted.FREE)}'
            yield _at((*SPACE, name), entry, words, key_is_wrong=True)


def name_of(path: Path) -> str:
    """Write a path as people do: `gates.slices[0].min`."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in path]
    return "".join(parts).removeprefix(".")


def _walk(root: Entry, loc: Path) -> tuple[Path, Entry, Path]:
    """Follow `loc` through the document; what is left are names of pydantic's own."""
    entry = root
    path: list[str | int] = []
    for number, part in enumerate(loc):
        if part in TAGS and tuple(path[:2]) == SPACE:
            continue
        inner = _step(entry, part)
        if inner is None:
            return tuple(path), entry, loc[number:]
        path.append(part)
        entry = inner
    return tuple(path), entry, ()


def _step(entry: Entry, part: str | int) -> Entry | None:
    match entry.value:
        case dict() as group:
            return group.get(part)
        case list() as items if isinstance(part, int) and part < len(items):
            found: Entry = items[part]
            return found
    return None


def _at(path: Path, entry: Entry, words: str, *, key_is_wrong: bool = False) -> Found:
    place = entry.key_at if key_is_wrong else entry.at
    name = name_of(path)
    mistake = Mistake(f"{name}: {words}", where=place.where, excerpt=place.excerpt, key=name)
    return Found(place.order, mistake)


def _missing(path: Path, entry: Entry, name: str, file: str) -> Found:
    key = name_of((*path, name))
    section = dotted.section_at(path)
    field = dotted.fields(section).get(name) if section else None
    example = field.examples[0] if field and field.examples else None
    inner = dotted.section_at((*path, name))
    if inner:
        needed = [n for n, f in dotted.fields(inner).items() if f.is_required()]
        words = f'; write "{name}:" and under it "{needed[0]}:"'
    elif example is not None:
        under = f' under "{name_of(path)}:"' if path else ""
        words = f'; write "{name}: {example}"{under}'
    else:
        words = ""
    problem = f'{key}: "{name}" is missing{words}'
    if not path:
        return Found((0, -1, 0), Mistake(problem, where=file, key=key))
    place = entry.key_at
    return Found(place.order, Mistake(problem, where=place.where, excerpt=place.excerpt, key=key))


def _unknown(path: Path) -> str:
    names = tuple(part for part in path if isinstance(part, str))
    section = dotted.section_at(path[:-1])
    here = list(dotted.fields(section)) if section else []
    if path[:2] == SPACE:
        here = list(DIMENSIONS)
    return f'"{names[-1]}" is not a setting{suggest.setting(names, here, dotted.all_names())}'


def _no_branch(path: Path, entry: Entry) -> str:
    section = dotted.section_at(path[:-1])
    field = dotted.fields(section).get(str(path[-1])) if section else None
    about = (field.description or "").rstrip(".") if field else "one of the kinds it can be"
    match = suggest.near(str(entry.value), ["auto"]) if field else None
    return f"{show(entry)} is not {about}" + (f'; did you mean "{match}"?' if match else "")


def _wrong(error: Details, path: Path, entry: Entry) -> str:
    say = SAY.get(error["type"])
    return say(error, path, entry) if say else f"{show(entry)}: {error['msg'].lower()}"


def show(entry: Entry) -> str:
    """Write a value as it would stand in the file, at most so many characters."""
    match entry.value:
        case None:
            return "nothing"
        case bool() as flag:
            return str(flag).lower()
        case dict():
            return "a group of settings"
        case list():
            return "a list"
        case value:
            text = repr(value) if isinstance(value, str) else str(value)
            return text if len(text) <= VALUE_CHARS else f"{text[:VALUE_CHARS]}..."


def _choice(error: Details, _: Path, entry: Entry) -> str:
    expected = error["ctx"]["expected"]
    options = re.findall(r"'([^']*)'", expected)
    match = suggest.near(str(entry.value), options)
    one_of = f"one of {expected}" if len(options) > 1 else expected
    return f"{show(entry)} is not {one_of}" + (f'; did you mean "{match}"?' if match else "")


def _dimension(_: Details, __: Path, entry: Entry) -> str:
    keys = list(entry.value) if isinstance(entry.value, dict) else []
    match = suggest.near(keys[0], DIMENSIONS) if keys else None
    shown = f'"{keys[0]}"' if keys else show(entry)
    tip = f'did you mean "{match}"?' if match else "write for example {uniform: [0, 1]}"
    return f"{shown} is not one of {', '.join(DIMENSIONS)}; {tip}"


def _text(_: Details, __: Path, entry: Entry) -> str:
    scalar = not isinstance(entry.value, (dict, list)) and entry.value is not None
    return f"{show(entry)} is not text" + ("; put it in quotes" if scalar else "")


def _number(kind: str, reader: type[int] | type[float]) -> Callable[[Details, Path, Entry], str]:
    def say(_: Details, __: Path, entry: Entry) -> str:
        try:
            quoted = isinstance(entry.value, str) and reader(entry.value) is not None
        except ValueError:
            quoted = False
        return f"{show(entry)} is not {kind}" + ("; take the quotes away" if quoted else "")

    return say


def _flag(_: Details, __: Path, entry: Entry) -> str:
    meant = {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(str(entry.value))
    return f"{show(entry)} is not true or false" + (f'; did you mean "{meant}"?' if meant else "")


def _group(_: Details, path: Path, entry: Entry) -> str:
    section = dotted.section_at(path)
    keys = list(dotted.fields(section))[:3] if section else []
    example = f" with {', '.join(keys)}, ..." if keys else ' such as "name: value"'
    return f"{show(entry)} is not a group of settings{example}"


def _bound(words: str, key: str) -> Callable[[Details, Path, Entry], str]:
    def say(error: Details, _: Path, entry: Entry) -> str:
        return f"{show(entry)} is out of range; it must be {words} {error['ctx'][key]:.10g}"

    return say


def _pattern(error: Details, _: Path, entry: Entry) -> str:
    return f"{show(entry)} is not {PATTERNS[error['ctx']['pattern']]}"


def _ours(error: Details, _: Path, __: Entry) -> str:
    return str(error["ctx"]["error"])


def _list(_: Details, __: Path, entry: Entry) -> str:
    scalar = not isinstance(entry.value, (dict, list)) and entry.value is not None
    tip = f"; write [{entry.value}]" if scalar else "; write [a, b]"
    return f"{show(entry)} is not a list{tip}"


SAY: dict[str, Callable[[Details, Path, Entry], str]] = {
    "literal_error": _choice,
    "enum": _choice,
    "union_tag_not_found": _dimension,
    "string_type": _text,
    "int_type": _number("a whole number", int),
    "int_from_float": _number("a whole number", int),
    "int_parsing": _number("a whole number", int),
    "float_type": _number("a number", float),
    "finite_number": lambda _, __, entry: f"{show(entry)} is not a finite number",
    "bool_type": _flag,
    "model_type": _group,
    "dict_type": _group,
    "list_type": _list,
    "tuple_type": lambda *_: "this is not a list of two numbers; write [low, high]",
    "too_long": lambda *_: "there are too many values; write [low, high]",
    "too_short": lambda *_: "the list is empty; write at least one value",
    "string_too_short": lambda *_: "the text is empty",
    "greater_than_equal": _bound("at least", "ge"),
    "greater_than": _bound("above", "gt"),
    "less_than_equal": _bound("at most", "le"),
    "less_than": _bound("below", "lt"),
    "string_pattern_mismatch": _pattern,
    "value_error": _ours,
}
