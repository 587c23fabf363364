"""Settings by their dotted names: `train.batch_size`."""

from collections.abc import Iterator
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from mlstack.config.kinds import Section
from mlstack.config.schema import Config

FREE = ("model.args.", "data.args.", "train.trainer_args.")


def fields(section: type[Section]) -> dict[str, FieldInfo]:
    """Give the fields of a section by the name they have in the file."""
    return {field.alias or name: field for name, field in section.model_fields.items()}


def names(section: type[Section] = Config, prefix: str = "") -> Iterator[str]:
    """Yield the dotted name of every setting."""
    for name, field in fields(section).items():
        inner = section_of(field.annotation)
        if inner and not _is_collection(field.annotation):
            yield from names(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


@cache
def all_names() -> tuple[str, ...]:
    """Give the dotted names of all settings, in the order of the schema."""
    return tuple(names())


def section_at(path: tuple[str | int, ...]) -> type[Section] | None:
    """Give the section that lies at `path` of a document; None for anything else."""
    section: type[Section] | None = Config
    annotation: Any = Config
    for part in path:
        if _is_collection(annotation):
            annotation = get_args(annotation)[-1]
        elif section and part in fields(section):
            annotation = fields(section)[str(part)].annotation
        else:
            return None
        section = section_of(annotation)
    return None if _is_collection(annotation) else section


def section_of(annotation: Any) -> type[Section] | None:
    """Find the section in an annotation such as `dict[str, Section]` or `Section | None`."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    inner = (section_of(argument) for argument in get_args(annotation))
    return next((section for section in inner if section), None)


def flatten(value: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield (path, value) of every setting in force; an empty group is one setting."""
    if isinstance(value, Section):
        pairs = [(alias, getattr(value, name)) for name, alias in _aliases(type(value))]
    elif isinstance(value, dict) and value:
        pairs = list(value.items())
    else:
        pairs = []
        yield (), value
    for name, inner in pairs:
        for path, leaf in flatten(inner):
            yield (str(name), *path), leaf


def _aliases(section: type[Section]) -> list[tuple[str, str]]:
    return [(name, field.alias or name) for name, field in section.model_fields.items()]


def _is_collection(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin in (Union, UnionType, Annotated):
        return any(_is_collection(argument) for argument in get_args(annotation))
    return origin in (dict, list)
