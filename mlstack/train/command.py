"""The command `train`."""

from mlstack.call import Call, common_options, room


@common_options
def train(call: Call) -> None:
    """Train the model that mlstack.yaml describes."""


app = room(train)
