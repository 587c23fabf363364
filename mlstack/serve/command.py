"""The command `serve`."""

from mlstack.call import Call, common_options, room


@common_options
def serve(call: Call) -> None:
    """Serve the live model over HTTP."""


app = room(serve)
