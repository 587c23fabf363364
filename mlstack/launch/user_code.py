"""The user's own classes: found by `package.module:Class`, built with what they ask for."""

import importlib
import inspect
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mlstack.errors import ConfigError


def load_class(reference: str, root: Path, *, key: str) -> type:
    """Import a class of the project; `key` is the setting that names it.

    Raises:
        ConfigError: the module or the class is not there, or its import fails.
    """
    module_name, _, class_name = reference.partition(":")
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{key}: cannot import `{module_name}`: no module named `{error.name}`",
            hint=f"is there a file {module_name.replace('.', '/')}.py in {root}?",
        ) from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        near = get_close_matches(class_name, vars(module), n=1)
        raise ConfigError(
            f"{key}: `{module_name}` has no class `{class_name}`",
            hint=f"did you mean `{near[0]}`?" if near else "",
        )
    return found


def construct(wanted: type, args: dict[str, Any], offered: dict[str, Any], *, key: str) -> Any:
    """Build `wanted` with the user's `args` and those of `offered` that its signature names.

    Raises:
        ConfigError: an argument is unknown or a needed one is missing; `key` names the setting.
    """
    parameters = inspect.signature(wanted).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name in args:
        if name not in parameters and not takes_any:
            near = get_close_matches(name, parameters, n=1)
            raise ConfigError(
                f"{key}.{name}: `{wanted.__name__}` takes no argument `{name}`",
                hint=f"did you mean `{near[0]}`?" if near else f"it takes {', '.join(parameters)}",
            )
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
