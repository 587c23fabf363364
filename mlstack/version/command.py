"""The command `version`."""

from mlstack.call import Call, common_options, room


@common_options
def version(call: Call) -> None:
    """Keep versions of data and models."""


app = room(version)
