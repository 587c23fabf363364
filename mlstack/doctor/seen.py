"""What the workers of `doctor` report."""

import msgspec

from mlstack.records.base import Record


class TorchSeen(Record, frozen=True, kw_only=True, tag="doctor.torch"):
    """What torch says of itself and of the GPUs; `problem` is empty when it works."""

    version: str = ""
    cuda: str = ""  # CUDA version it was built for; empty for a CPU build
    gpus: list[str] = msgspec.field(default_factory=list)  # those that computed a known sum
    problem: str = ""
    vision_problem: str = ""  # torchvision is installed and does not fit


class OnnxSeen(Record, frozen=True, kw_only=True, tag="doctor.onnxruntime"):
    """Which providers of onnxruntime computed a known sum; a problem by provider otherwise."""

    version: str = ""
    problem: str = ""
    problems: dict[str, str] = msgspec.field(default_factory=dict)  # provider -> "" or why not


class GroupSeen(Record, frozen=True, kw_only=True, tag="doctor.group"):
    """What GPUs, or processes, did together; `problem` is empty when it worked."""

    total: int = 0  # of 1, 2, ... over all processes
    milliseconds: float = 0.0  # for a sum of 64 MiB
    indirect: list[str] = msgspec.field(default_factory=list)  # pairs that cannot copy directly
    problem: str = ""


Seen = TorchSeen | OnnxSeen | GroupSeen
