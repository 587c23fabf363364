"""Make a .tflite of a program that torch saved: `python -I litert_script.py JOB.json`.

It runs in the environment of the converter, where mlstack is not: it may import nothing of it.
"""

import json
import os
import resource
import sys
from pathlib import Path
from types import TracebackType

JOB = json.loads(Path(sys.argv[1]).read_text())


def say(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Leave the reason of a failure in a file, and all of it in the log."""
    sys.__excepthook__(kind, error, trace)
    line = next(iter(str(error).splitlines()), "")
    Path(JOB["problem"]).write_text(f"{kind.__name__}: {line[:300]}")


# Both before the imports: they may fail, and take most of the memory.
sys.excepthook = say
resource.setrlimit(resource.RLIMIT_AS, (JOB["limit_bytes"], JOB["limit_bytes"]))
os.environ.setdefault("JAX_PLATFORMS", "cpu")  # else jax looks for other devices

import litert_torch  # noqa: E402
import torch  # noqa: E402


class Named(torch.nn.Module):
    """The program with its input and outputs called what the package calls them."""

    def __init__(self, program: torch.nn.Module, outputs: list[str]) -> None:
        super().__init__()
        self.program = program
        self.outputs = outputs

    def forward(self, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Give the outputs by name."""
        return dict(zip(self.outputs, self.program(*inputs.values()), strict=True))


def convert() -> None:
    """Write the file beside the target and give it its name when it is whole."""
    program = torch.export.load(JOB["program"])
    assert program.example_inputs is not None
    given = {JOB["input"]: program.example_inputs[0][0]}
    model = litert_torch.convert(Named(program.module(), JOB["outputs"]), sample_kwargs=given)
    part = f"{JOB['target']}.part"
    model.export(part)
    Path(part).rename(JOB["target"])


convert()
