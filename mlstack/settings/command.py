"""The command `config`."""

from mlstack.call import Call, common_options, room


@common_options
def config(call: Call) -> None:
    """Show what is in force and why."""


app = room(config)
