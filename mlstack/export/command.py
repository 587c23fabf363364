"""The command `export`."""

from mlstack.call import Call, common_options, room


@common_options
def export(call: Call) -> None:
    """Turn a run into a verified model package."""


app = room(export)
