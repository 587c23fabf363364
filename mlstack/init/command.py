"""The command `init`."""

from mlstack.call import Call, common_options


@common_options
def init(call: Call) -> None:
    """Start a project that runs as it lies."""
