"""The command `monitor`."""

from mlstack.call import Call, common_options, room


@common_options
def monitor(call: Call) -> None:
    """Watch the served model."""


app = room(monitor)
