"""The command `tune`."""

from mlstack.call import Call, common_options, room


@common_options
def tune(call: Call) -> None:
    """Search for better settings."""


app = room(tune)
