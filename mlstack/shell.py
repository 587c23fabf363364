"""Words of a command that a person is told to type."""

import shlex
from pathlib import Path


def path(named: Path | str) -> str:
    """Write a path as one word that a shell takes, and that no command takes for an option."""
    text = str(named)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)
