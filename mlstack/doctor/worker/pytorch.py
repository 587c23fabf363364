"""What torch can do here: each GPU computes a sum that is known beforehand."""

from importlib import import_module
from importlib.util import find_spec

from mlstack.doctor.seen import TorchSeen

SIDE = 64


def look_at_torch() -> TorchSeen:
    """Import torch, compute on every GPU it sees, import torchvision if it is there."""
    try:
        import torch  # noqa: PLC0415  that it cannot be imported is a finding
    except Exception as error:
        return TorchSeen(problem=_first_line(error))
    gpus: list[str] = []
    problem = ""
    for index in range(torch.cuda.device_count()):
        name = f"{index}: {torch.cuda.get_device_name(index)}"
        try:
            ones = torch.ones(SIDE, SIDE, device=f"cuda:{index}")
            total = float((ones @ ones).sum())
        except RuntimeError as error:
            problem = f"GPU {name}: {_first_line(error)}"
            continue
        if total == SIDE**3:
            gpus.append(name)
        else:
            problem = f"GPU {name} computes {total:g} instead of {SIDE**3}"
    return TorchSeen(
        version=str(torch.__version__),
        cuda=torch.version.cuda or "",
        gpus=gpus,
        problem=problem,
        vision_problem=_vision_problem(),
    )


def _vision_problem() -> str:
    if find_spec("torchvision") is None:
        return ""
    try:
        import_module("torchvision")
    except Exception as error:
        return _first_line(error)
    return ""


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
