"""`mlstack.yaml` -> `Project`: every setting, its default, and every mistake at once.

Reads: mlstack.yaml, mlstack.local.yaml, the environment (MLSTACK_A__B), `--set a.b=value`.
The schema, and pydantic with it, is loaded by whoever first asks for it: a tenth of a second.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mlstack.config.project import Project

if TYPE_CHECKING:
    from mlstack.config.loading import assume, load
    from mlstack.config.schema import Config
    from mlstack.config.unbuilt import refuse_unbuilt

__all__ = ["Config", "Project", "assume", "load", "refuse_unbuilt"]

LAZY = {"Config": "schema", "assume": "loading", "load": "loading", "refuse_unbuilt": "unbuilt"}


def __getattr__(name: str) -> Any:
    """Load what is asked for."""
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{LAZY[name]}"), name)
    globals()[name] = found
    return found
