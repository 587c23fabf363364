"""The command `label`."""

from mlstack.call import Call, common_options, room


@common_options
def label(call: Call) -> None:
    """Label data in the browser."""


app = room(label)
