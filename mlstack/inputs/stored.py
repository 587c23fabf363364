"""What a package keeps of how its inputs are made -> the spec it was written from."""

from typing import Any, TypeVar

import msgspec

from mlstack.errors import ConfigError, DataError

Spec = TypeVar("Spec")


def convert(stored: dict[str, Any], kind: str, spec: type[Spec], needed: tuple[str, ...]) -> Spec:
    """Read what `to_json` of a spec gave; it may be anybody's.

    Raises:
        DataError: it describes something else, or lacks or twists a part.
    """
    missing = [name for name in needed if name not in stored]
    problem = f"there is no `{missing[0]}`" if missing else ""
    if stored.get("kind") != kind:
        problem = f"it is not of the kind `{kind}`"
    if not problem:
        try:
            return msgspec.convert(stored, type=spec)
        except (msgspec.ValidationError, ConfigError) as error:
            problem = str(error)
    raise DataError(
        f"this mlstack cannot preprocess {str(stored)[:200]}: {problem}",
        hint="export the run again, or install the mlstack that wrote the package",
    )
