"""A project: its folder and its settings."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlstack.config.schema import Config


@dataclass(frozen=True)
class Project:
    """The folder with mlstack.yaml, what is in force there, and who said so.

    `origins` has for each setting "default", "mlstack.yaml:12", "mlstack.local.yaml:3", the name
    of an environment variable, or "--set".
    """

    root: Path
    config: "Config"
    origins: dict[str, str] = field(default_factory=dict)
