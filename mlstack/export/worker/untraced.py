"""Why a module cannot become a graph, said to whoever wrote it: what, in which line, what to do."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from mlstack.errors import StepError
from mlstack.launch.user_code import own_line

OPERATION = re.compile(r"\baten\.(\w+)")


def refusal(error: BaseException, network: nn.Module) -> StepError:
    """Say why `network` cannot be traced.

    Args:
        error: what torch raised.
        network: of the user, whose file and line are named where they are known.
    """
    chain = list(_causes(error))
    deepest = chain[-1]
    scripted = _scripted(network) if isinstance(deepest, TypeError) else ""
    if scripted:  # torch says that it was called with too many arguments
        return StepError(
            f"the model cannot be turned into a graph: `{scripted}` is TorchScript",
            hint="leave torch.jit.script out of the model (the weights stay right)",
            where=line(chain, network),
        )
    lines = [line.strip() for line in str(deepest).splitlines() if line.strip()]
    cause = f"{type(deepest).__name__}: {lines[0] if lines else ''}"
    return StepError(
        f"the model cannot be turned into a graph: {cause}",
        hint=_hint(chain),
        where=line(chain, network),
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__


def _hint(chain: list[BaseException]) -> str:
    if "data-dependent" in str(chain[-1]).lower():
        return "forward must not decide by the values of its input; use torch.where"
    for one in chain:
        operation = OPERATION.search(str(one))
        if operation is not None:
            return f"ONNX has no `{operation[1]}` for such inputs; write it in forward another way"
    return "a graph is made of tensor operations alone; write this line of forward another way"


def _scripted(network: nn.Module) -> str:
    """Name the first part that torch.jit.script has made; empty when there is none."""
    parts = network.named_modules()
    return next((name for name, part in parts if isinstance(part, torch.jit.ScriptModule)), "")


def line(chain: list[BaseException], network: nn.Module) -> str:
    """Give the innermost line of the user's own code that the error came through, if any did."""
    package = sys.modules.get(type(network).__module__.partition(".")[0])
    if package is None or not package.__file__:
        return ""
    home = Path(package.__file__).parent
    root = home.parent if hasattr(package, "__path__") else home
    lines = [own_line(one, root) for one in chain]
    return next((line for line in reversed(lines) if line), "")
