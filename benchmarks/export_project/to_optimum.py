"""Optimum's own export of the DistilBERT in FOLDER: fp32, or fp32 and dynamic INT8.

    python to_optimum.py FOLDER fp32|int8

FOLDER/weights.pt holds the network's weights; `prepare` instead of a precision lays them out as
transformers does, which is not part of what is timed.
"""

import sys
from pathlib import Path


def prepare(folder: Path) -> None:
    """Write config.json and model.safetensors."""
    import torch
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    config = DistilBertConfig(
        vocab_size=400, max_position_embeddings=96, dim=256, n_layers=4, n_heads=4,
        hidden_dim=1024, num_labels=10, pad_token_id=0,
    )  # fmt: skip
    net = DistilBertForSequenceClassification(config)
    net.load_state_dict(torch.load(folder / "weights.pt"))
    net.save_pretrained(folder / "model")


def export(folder: Path, precision: str) -> None:
    """Export as optimum's guides do."""
    from optimum.exporters.onnx import main_export

    made = folder / "optimum"
    main_export(str(folder / "model"), made, task="text-classification")
    if precision == "int8":
        from optimum.onnxruntime import ORTQuantizer
        from optimum.onnxruntime.configuration import AutoQuantizationConfig

        quantizer = ORTQuantizer.from_pretrained(made, file_name="model.onnx")
        wanted = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=False)
        quantizer.quantize(save_dir=made, quantization_config=wanted)


if __name__ == "__main__":
    place, what = Path(sys.argv[1]), sys.argv[2]
    prepare(place) if what == "prepare" else export(place, what)
