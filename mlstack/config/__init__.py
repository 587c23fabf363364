"""`mlstack.yaml` -> `Project`: every setting, its default, and every mistake at once.

Reads: mlstack.yaml, mlstack.local.yaml, the environment (MLSTACK_A__B), `--set a.b=value`.
"""

from mlstack.config.load import Project, load
from mlstack.config.schema import Config
from mlstack.config.unbuilt import refuse_unbuilt

__all__ = ["Config", "Project", "load", "refuse_unbuilt"]
