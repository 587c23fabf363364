"""Which smaller graphs are worth making: by what the graph computes, and where it will run."""

from dataclasses import dataclass, field

TARGETS = ("cpu", "arm", "gpu", "tensorrt")
ON_GPU = ("gpu", "tensorrt")  # where FP16 is made
CONVOLUTION, DEPTHWISE, PRODUCT = "Conv", "DepthwiseConv", "MatMul"
# Where static INT8 is refused: percent of the weights, in the layers that then stay in FP32. The
# first ones of a mobile network have few weights, and what they round off all others work on: with
# depthwise convolutions it is where the attempts begin.
SPARED = (1, 5)
AFTER = "-after-"
# Below this share of the work in convolutions, INT8 of the matrix products alone is worth it.
FEW = 0.5
NEVER = {
    "fp16-cpu": "FP16 is 1.4 times slower than FP32 on a processor; for `export.target: gpu`",
    "dynamic-conv": "convolutions do {share:.0%} of the work, and dynamic INT8 slows them down",
    "depthwise": "beside depthwise convolutions the first layers lose too much",
    "no-conv": "there is no convolution to calibrate; dynamic INT8 suits matrix products",
    "gpu-int8": "INT8 is slower than FP16 in onnxruntime on a GPU",
    "no-work": "there is neither a convolution nor a matrix product in the graph",
}


@dataclass(frozen=True)
class Plan:
    """Which kinds are made beside FP32, and why others are not."""

    kinds: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def plan(precision: str, target: str, work: dict[str, int]) -> Plan:
    """Decide which smaller graphs to make.

    Args:
        precision: what was asked for; `auto` for all that suit, `int8` for the one kind that does.
        target: where the package will run: cpu, arm, gpu or tensorrt.
        work: multiplications of one row by operator (`Conv`, `DepthwiseConv`, `MatMul`).
    """
    if precision == "fp32":
        return Plan()
    if precision == "auto":
        return _all(target, work)
    if precision == "int8":
        return Plan([_static(target, work) if convolutions(work) else "int8-dynamic"])
    return Plan([_static(target) if precision == "int8-static" else precision])


def spared(kind: str) -> list[str]:
    """Name what is tried where a static kind is red: its first layers in full precision."""
    whole, _, tried = kind.partition(AFTER)
    left = [percent for percent in SPARED if percent > int(tried or 0)]
    return [f"{whole}{AFTER}{percent}" for percent in left] if "static" in kind else []


def convolutions(work: dict[str, int]) -> int:
    """Count the multiplications of convolutions of both sorts."""
    return work.get(CONVOLUTION, 0) + work.get(DEPTHWISE, 0)


def _all(target: str, work: dict[str, int]) -> Plan:
    if target == "tensorrt" and work:
        return Plan(["fp16", _static(target, work)])
    if target in ON_GPU:
        return Plan(["fp16"], {_static("tensorrt"): NEVER["gpu-int8"]})
    left_out = {"fp16": NEVER["fp16-cpu"]}
    total = sum(work.values())
    if not total:
        return Plan([], left_out | {"int8": NEVER["no-work"]})
    share = convolutions(work) / total
    kinds = []
    if share > 0:
        kinds.append(_static(target, work))
        if kinds[0] != _static(target):
            left_out[_static(target)] = NEVER["depthwise"]
    else:
        left_out[_static(target)] = NEVER["no-conv"]
    if share < FEW:
        kinds.append("int8-dynamic")
    else:
        left_out["int8-dynamic"] = NEVER["dynamic-conv"].format(share=share)
    return Plan(kinds, left_out)


def _static(target: str, work: dict[str, int] | None = None) -> str:
    """Name the static kind: U8S8 is the faster one on x86, S8S8 what ARM and TensorRT take.

    A network of depthwise convolutions is not asked to give its first layers, too.
    """
    kind = "int8-static" if target in ("cpu", "gpu") else "int8-static-s8s8"
    return f"{kind}{AFTER}{SPARED[0]}" if work and work.get(DEPTHWISE) else kind
