"""The user's own classes: found by `package.module:Class`, built with what they ask for."""

import importlib
import inspect
import re
import sys
import traceback
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from mlstack.errors import ConfigError

LONGEST = 500  # letters of what an error says


def load_class(reference: str, root: Path, *, key: str) -> type:
    """Import a class of the project; `key` is the setting that names it.

    Raises:
        ConfigError: the module or the class is not there, or its import fails.
    """
    module_name, _, class_name = reference.partition(":")
    names = _import(module_name, root, key)
    found = names.get(class_name)
    if not isinstance(found, type):
        raise no_class(key, module_name, class_name, list(names))
    return found


def load_function(reference: str, root: Path, *, key: str) -> Callable[..., Any]:
    """Import a function of the project; `key` is the setting that names it.

    Raises:
        ConfigError: the module or the function is not there, or its import fails.
    """
    module_name, _, name = reference.partition(":")
    names = _import(module_name, root, key)
    found = names.get(name)
    if not callable(found):
        raise no_class(key, module_name, name, list(names), kind="function")
    return cast("Callable[..., Any]", found)


def construct(wanted: type, args: dict[str, Any], offered: dict[str, Any], *, key: str) -> Any:
    """Build `wanted` with the user's `args` and those of `offered` that its signature names.

    Raises:
        ConfigError: an argument is unknown or a needed one is missing; `key` names the setting.
    """
    parameters = inspect.signature(wanted).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name in args:
        if name not in parameters and not takes_any:
            raise unknown_argument(key, wanted.__name__, name, list(parameters))
    filled = {name: value for name, value in offered.items() if name in parameters} | args
    for name, parameter in parameters.items():
        required = parameter.default is parameter.empty
        named = parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        if required and named and name not in filled:
            raise ConfigError(
                f"{key}: `{wanted.__name__}` needs the argument `{name}`",
                hint=f"write it under {key} in mlstack.yaml",
            )
    return wanted(**filled)


def in_words(error: BaseException, root: Path) -> str:
    """Say what was raised, and which line of the user's own code it passed last."""
    words = text_of(error)
    if "Original Traceback" in words:  # of a loader's process: what it raised is told last
        line, said = _own_line_in(words, root), words.splitlines()[-1]
    else:
        line, first = own_line(error, root), words.split("\n")[0]
        said = f"{type(error).__name__}: {first}" if first else type(error).__name__
    said = said if len(said) <= LONGEST else f"{said[:LONGEST]}..."
    return f"{line}: {said}" if line else said


def text_of(error: BaseException) -> str:
    """Give an error's own words; none when it cannot say them, and nothing that is no text."""
    try:
        words = str(error)
    except Exception:  # a mistake in the user's own `__str__` must not hide the first one
        return ""
    return readable(words).strip()


def readable(words: str) -> str:
    """Put a mark where a text holds half a character, which no file can."""
    return words.encode("utf-8", "replace").decode()


def own_line(error: BaseException, root: Path) -> str:
    """Name the line of the project that an error passed last, as `file:line`; empty if none.

    What is installed into an environment inside of the project is not the user's own.
    """
    places = [(f.filename, f.lineno) for f in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        places.append((error.filename, error.lineno))
    return _last_own(places, root)


def _own_line_in(told: str, root: Path) -> str:
    """Name the line of the project that a traceback, told as text, passed last."""
    places = re.findall(r'^ *File "(.+)", line (\d+)', told, re.MULTILINE)
    return _last_own([(name, int(number)) for name, number in places], root)


def _last_own(places: list[tuple[str, int | None]], root: Path) -> str:
    for name, number in reversed(places):
        path = Path(name)
        if path.is_relative_to(root) and "site-packages" not in path.parts:
            return f"{path.relative_to(root)}:{number}"
    return ""


def _import(module: str, root: Path, key: str) -> dict[str, Any]:
    """Import a module of the project; give what it names."""
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    try:
        return vars(importlib.import_module(module))
    except ModuleNotFoundError as error:
        raise no_module(key, module, error.name or module, root) from error


def no_module(key: str, module: str, missing: str, root: Path) -> ConfigError:
    """Say that `module` cannot be imported because `missing` is not there."""
    own = missing.split(".")[0] == module.split(".")[0]
    # A package that is missing lacks the module, too; what the module imports is another file.
    file = (module if module.startswith(f"{missing}.") else missing).replace(".", "/")
    return ConfigError(
        f"{key}: cannot import `{module}`: no module named `{missing}`",
        hint=f"is there a file {file}.py in {root}?" if own else f"pip install {missing}",
    )


def no_class(
    key: str, module: str, name: str, there: list[str], *, kind: str = "class"
) -> ConfigError:
    """Say that a module has no such class or function."""
    near = get_close_matches(name, there, n=1)
    return ConfigError(
        f"{key}: `{module}` has no {kind} `{name}`",
        hint=f"did you mean `{near[0]}`?" if near else f"write it in {module.replace('.', '/')}.py",
    )


def unknown_argument(key: str, name: str, argument: str, takes: list[str]) -> ConfigError:
    """Say that a class takes no such argument."""
    near = get_close_matches(argument, takes, n=1)
    return ConfigError(
        f"{key}.{argument}: `{name}` takes no argument `{argument}`",
        hint=f"did you mean `{near[0]}`?" if near else f"it takes {', '.join(takes) or 'none'}",
    )
