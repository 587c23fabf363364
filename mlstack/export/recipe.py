"""Answer a raw file without mlstack: Python for the model card, run in a test as it stands."""

from typing import Any

from mlstack.inputs.images import ImageSpec

IMAGE = """\
import sys
import numpy as np, onnxruntime
from PIL import Image, ImageOps

def read(path):
    image = Image.open(path)
    if {spare_px}:  # a large JPEG is decoded small
        image.draft(None, ({spare_px}, {spare_px}))
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.asarray(image, dtype=np.float64)
        scale = 255 / 65535 if values.max() > 255 else 1
        image = Image.fromarray((values * scale).round().clip(0, 255).astype(np.uint8))
    elif image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    image = image.convert("{mode}").resize(({width}, {height}), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.uint8).reshape(1, {height}, {width}, {channels})

session = onnxruntime.InferenceSession("model.onnx")
logits, probabilities = session.run(["logits", "probabilities"], {{"{input}": read(sys.argv[1])}})
print(probabilities[0].tolist())
"""
TABLE = """\
import json, math, sys
import numpy as np, onnxruntime

spec = json.load(open("mlstack/signature.json"))["preprocess"]

def read(path):
    row, cells = json.load(open(path)), []
    for name, fill in spec["numbers"].items():  # a missing number is the mean of training
        value = row[name]
        missing = value is None or math.isnan(value)
        cells.append((fill if missing else float(value)) + 0.0)  # one zero, not two
    for name, known in spec["categories"].items():  # the last cell is any other text
        value = row[name]
        text = str(value).lower() if isinstance(value, bool) else value
        missing = text is None or text != text
        place = None if missing else known.index(text) if text in known else len(known)
        cells += [float(place == i) for i in range(len(known) + 1)]
    return np.array([cells], dtype=np.float32)

session = onnxruntime.InferenceSession("model.onnx")
logits, probabilities = session.run(["logits", "probabilities"], {{"{input}": read(sys.argv[1])}})
print(probabilities[0].tolist())
"""
TEXT = """\
import json, sys
import numpy as np, onnxruntime, tokenizers

spec = json.load(open("mlstack/signature.json"))["preprocess"]
tokenizer = tokenizers.Tokenizer.from_str(json.dumps(spec["tokenizer"]))

def read(path):
    text = json.load(open(path))[spec["column"]] or ""
    text = text.encode("utf-8", "replace").decode()
    return np.array([tokenizer.encode(text).ids], dtype=np.int32)

session = onnxruntime.InferenceSession("model.onnx")
logits, probabilities = session.run(["logits", "probabilities"], {{"{input}": read(sys.argv[1])}})
print(probabilities[0].tolist())
"""


def python(preprocess: dict[str, Any] | None, entry: str) -> str:
    """Give a script that answers the file it is called with; empty where only tensors are taken.

    Args:
        preprocess: as the signature has it.
        entry: name of the graph's input.
    """
    if preprocess is None or preprocess.get("features"):
        return ""
    if preprocess["kind"] == "table":
        return TABLE.format(input=entry)
    if preprocess["kind"] == "text":
        return TEXT.format(input=entry)
    spec = ImageSpec.from_json(preprocess)
    return IMAGE.format(
        mode="L" if spec.channels == 1 else "RGB",
        width=spec.width,
        height=spec.height,
        channels=spec.channels,
        spare_px=spec.spare_px,
        input=entry,
    )
