"""The command `run`."""

from mlstack.call import Call, common_options


@common_options
def run(call: Call) -> None:
    """Bring every stale stage up to date."""


@common_options
def status(call: Call) -> None:
    """Show the state of every stage and the next command to type."""
