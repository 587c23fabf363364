"""What a run made of the machine, in a few numbers."""

from itertools import pairwise
from statistics import median

from mlstack.records.system import GpuUse, Used, energy
from mlstack.train.curves import History, minutes
from mlstack.train.results import Use


def use_of(past: History) -> Use:
    """Sum up a run's looks at the machine and its epochs; None where nobody looked."""
    waits = [one.loader_wait for one in past.speeds if one.loader_wait is not None]
    peaks = [one.gpu_memory_bytes for one in past.speeds if one.gpu_memory_bytes is not None]
    used = past.used
    return Use(
        seconds=sum(epoch.seconds for epoch in past.epochs),
        examples_per_s=median(s.examples_per_s for s in past.speeds) if past.speeds else None,
        loader_wait=median(waits) if waits else None,
        cpu_cores=_mean(used, [one.cpu_cores for one in used]) if used else None,
        memory_bytes=max((one.memory_bytes for one in used), default=None),
        free_bytes=min((one.free_bytes for one in used), default=None),
        torch_bytes=max(peaks, default=None),
        gpus=list(_gpus(used)),
        energy=energy(used) if used else None,
    )


def _gpus(used: list[Used]) -> list[GpuUse]:
    """Give each GPU's mean and the most memory that was in use on it."""
    found = []
    for index in sorted({gpu.index for one in used for gpu in one.gpus}):
        looks = [(one, gpu) for one in used for gpu in one.gpus if gpu.index == index]
        busy = _mean([one for one, _ in looks], [gpu.busy for _, gpu in looks])
        most = max(gpu.memory_bytes for _, gpu in looks)
        found.append(GpuUse(index=index, busy=busy, memory_bytes=most))
    return found


def _mean(used: list[Used], values: list[float]) -> float:
    """Average over time: the pauses between two looks grow while a run goes on."""
    at = minutes(used)
    spans = [1 / 60, *(after - before for before, after in pairwise(at))]
    weights = [span or 1 / 60 for span in spans]
    return sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)
