"""`mlstack.yaml` -> `Project`: every setting, its default, and every mistake at once.

Reads: mlstack.yaml, mlstack.local.yaml, the environment (MLSTACK_A__B), `--set a.b=value`.
"""

from mlstack.config.load import Project, load
from mlstack.config.schema import Config

__all__ = ["Config", "Project", "load"]
