"""The command `doctor`."""

from mlstack.call import Call, common_options_anywhere


@common_options_anywhere
def doctor(call: Call) -> None:
    """Say what this machine is able to do, and what to type where it is not."""
    from mlstack.doctor import api, view

    call.show(api.doctor(call.config, call.sets), view.draw)
