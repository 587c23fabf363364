"""Ultralytics' own export of the YOLO11n-cls in FOLDER: fp32, or static INT8 (it deletes the fp32).

    python to_ultralytics.py FOLDER fp32|int8

FOLDER/weights.pt holds the network's weights, FOLDER/pictures those to calibrate with; `prepare`
instead of a precision writes the network's description, which is not part of what is timed.
The torchvision beside torch for the CPU does not find its own operators; calibration takes none of
them, only its transforms of PIL's pictures, so they are declared here.
"""

import sys
from pathlib import Path

import torch

OPERATORS = (
    "nms", "qnms", "roi_align", "_roi_align_backward", "ps_roi_align", "_ps_roi_align_backward",
    "roi_pool", "_roi_pool_backward", "ps_roi_pool", "_ps_roi_pool_backward", "qroi_align",
    "deform_conv2d", "_deform_conv2d_backward",
)  # fmt: skip


def prepare(folder: Path) -> None:
    """Write the description of the network for ten classes."""
    from ultralytics.nn.tasks import yaml_model_load
    from ultralytics.utils import YAML

    YAML.save(folder / "yolo11n-cls.yaml", yaml_model_load("yolo11n-cls.yaml") | {"nc": 10})


def export(folder: Path, precision: str) -> None:
    """Export as Ultralytics' guides do."""
    from ultralytics import YOLO

    model = YOLO(str(folder / "yolo11n-cls.yaml"), task="classify")
    model.model.load_state_dict(torch.load(folder / "weights.pt"))
    words = {"quantize": 8, "data": str(folder / "pictures")} if precision == "int8" else {}
    model.export(format="onnx", imgsz=64, dynamic=True, **words)


if __name__ == "__main__":
    declared = torch.library.Library("torchvision", "DEF")
    for operator in OPERATORS:
        declared.define(f"{operator}(Tensor x) -> Tensor")
    place, what = Path(sys.argv[1]), sys.argv[2]
    prepare(place) if what == "prepare" else export(place, what)
