"""The user's own classes as their source says, before anything of it is imported.

A wrong name is told at once, without waiting for torch and without leaving a run behind. What
source alone cannot tell is left to `user_code`, which imports.
"""

import ast
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlstack.config import Config
from mlstack.errors import ConfigError
from mlstack.launch.user_code import no_class, no_module, unknown_argument

# What YAML gives for a parameter of that type; true and false count as numbers, as in Python.
NUMBERS: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float)}


@dataclass(frozen=True)
class Named:
    """A class as the config names it, with the arguments given to it."""

    reference: str  # package.module:Class
    key: str
    args: dict[str, Any]
    args_key: str
    kind: str = "class"


def check(root: Path, config: Config) -> None:
    """Look for the model and the data module in the project's source.

    Raises:
        ConfigError: a module, a class or an argument is not there, or a file is not Python.
    """
    _check(root, Named(config.model.class_, "model.class", config.model.args, "model.args"))
    if config.data.module is not None:
        _check(root, Named(config.data.module, "data.module", config.data.args, "data.args"))
    if ":" in config.data.augment:
        _check(root, Named(config.data.augment, "data.augment", {}, "", kind="function"))


def _check(root: Path, named: Named) -> None:
    module, _, name = named.reference.partition(":")
    path = _file_of(root, module, named.key)
    if path is None:
        return
    tree = _parse(path, named.key)
    found = dict(_names(tree.body))
    if name not in found:
        if "*" not in found and "__getattr__" not in found:
            raise no_class(named.key, module, name, list(found), kind=named.kind)
        return
    parameters = _parameters(found[name])
    if parameters is None:
        return
    for argument, value in named.args.items():
        if argument not in parameters:
            raise unknown_argument(named.args_key, name, argument, list(parameters))
        kind = parameters[argument]
        if kind in NUMBERS and not isinstance(value, NUMBERS[kind]):
            raise _no_number(f"{named.args_key}.{argument}", name, kind, value)


def _no_number(key: str, name: str, kind: str, value: Any) -> ConfigError:
    what = "a whole number" if kind == "int" else "a number"
    hint = f"write {what}; mlstack.yaml says {value!r}"
    if str(value).lower().lstrip("+-") in ("nan", "inf"):
        hint = "write one that an optimizer can use"
    return ConfigError(f"{key}: {value!r} is not {what}, which `{name}` asks for", hint=hint)


def _file_of(root: Path, module: str, key: str) -> Path | None:
    """Find a module's file in the project; None when it is installed elsewhere."""
    place = root.joinpath(*module.split("."))
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if path.is_file():
            return path
    top = module.split(".")[0]
    if (root / top / "__init__.py").is_file() or not _is_installed(root / top, top):
        raise no_module(key, module, module, root)
    return None


def _is_installed(folder: Path, top: str) -> bool:
    return folder.is_dir() or importlib.util.find_spec(top) is not None


def _parse(path: Path, key: str) -> ast.Module:
    try:
        return ast.parse(path.read_bytes(), filename=str(path))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        words = getattr(error, "msg", None) or str(error)
        raise ConfigError(
            f"{key}: {path}:{line}: not Python: {words}", hint="correct that line"
        ) from error


def _names(body: list[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    """Yield what a module's body may define, `if` and `try` looked into."""
    for statement in body:
        match statement:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield statement.name, statement
            case ast.Import() | ast.ImportFrom():
                for alias in statement.names:
                    yield alias.asname or alias.name, statement
            case ast.Assign() | ast.AnnAssign():
                for node in ast.walk(statement):
                    if isinstance(node, ast.Name):
                        yield node.id, statement
            case ast.If() | ast.Try() | ast.With():
                handlers = [h.body for h in getattr(statement, "handlers", [])]
                others = [getattr(statement, "orelse", []), getattr(statement, "finalbody", [])]
                for inner in (statement.body, *handlers, *others):
                    yield from _names(inner)


def _kind(parameter: ast.arg, default: ast.expr | None) -> str:
    """Give the type of a parameter: as annotated, or `float` where its default is a number."""
    if parameter.annotation is not None:
        return ast.unparse(parameter.annotation)
    value = default.value if isinstance(default, ast.Constant) else None
    return "float" if isinstance(value, int | float) and not isinstance(value, bool) else ""


def _parameters(found: ast.stmt) -> dict[str, str] | None:
    """Give what a class's own `__init__` takes, each with its type; None when nothing tells."""
    if not isinstance(found, ast.ClassDef) or found.decorator_list:
        return None
    for statement in found.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            given = statement.args
            if given.kwarg or statement.decorator_list:
                return None
            plain = [*given.posonlyargs, *given.args]
            defaults = [None] * (len(plain) - len(given.defaults)) + [*given.defaults]
            every = zip([*plain, *given.kwonlyargs], [*defaults, *given.kw_defaults], strict=True)
            return {a.arg: _kind(a, default) for a, default in list(every)[1:]}
    return None
