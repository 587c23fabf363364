"""Answer a raw file without mlstack: Python for the model card, run in a test as it stands."""

from typing import Any

from mlstack.inputs.images import FORMATS, ImageSpec
from mlstack.inputs.separated import MISSING

IMAGE = """\
import io, json, sys
import numpy as np, onnxruntime
from PIL import Image, ImageOps

signature = json.load(open("mlstack/signature.json", "rb"))

def read(path):
    content = io.BytesIO(open(path, "rb").read())  # Pillow turns TIFF by itself, given a path
    image = Image.open(content, formats={formats})
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
"""
TABLE = """\
import json, sys
import numpy as np, onnxruntime

signature = json.load(open("mlstack/signature.json", "rb"))
spec, largest = signature["preprocess"], float(np.finfo(np.float32).max)
empty = {empty}  # what a cell without a value may say
logical = "true", "True", "TRUE", "false", "False", "FALSE"

def refuse(value):
    raise ValueError(f"`{{value}}` is not what this column, or JSON, can hold")

def read(path):
    row, cells = json.load(open(path, "rb"), parse_constant=refuse), []
    for name, fill in spec["numbers"].items():  # a missing number is the mean of training
        value = fill if row[name] is None or row[name] in empty else row[name]
        if type(value) not in (int, float) or abs(value) > largest:
            refuse(value)
        cells.append(value + 0.0)  # one zero, not two
    for name, known in spec["categories"].items():  # the last cell is any other text
        value = row[name]
        text = str(value).lower() if isinstance(value, bool) else value
        if not isinstance(text, str | None):
            refuse(value)
        flags = [one.lower() for one in known]  # true and false, however CSV writes them
        if sorted(flags) in (["false"], ["true"], ["false", "true"]) and text in logical:
            text = text if text.lower() not in flags else known[flags.index(text.lower())]
        place = known.index(text) if text in known else len(known)
        if text is None or (text in empty and text not in known):
            place = None
        cells += [float(place == i) for i in range(len(known) + 1)]
    return np.array([cells], dtype=np.float32)
"""
TEXT = """\
import json, sys
import numpy as np, onnxruntime, tokenizers

signature = json.load(open("mlstack/signature.json", "rb"))
spec = signature["preprocess"]
tokenizer = tokenizers.Tokenizer.from_str(json.dumps(spec["tokenizer"]))

def read(path):
    text = json.load(open(path, "rb"))[spec["column"]]
    if not isinstance(text, str | None):
        raise ValueError(f"`{{text}}` is not a text")
    text = (text or "").encode("utf-8", "replace").decode()
    return np.array([tokenizer.encode(text).ids], dtype=np.int32)
"""
ANSWER = """
session = onnxruntime.InferenceSession("model.onnx")
for path in sys.argv[1:]:
    (probabilities,) = session.run(["probabilities"], {{"{input}": read(path)}})
    best = probabilities[0].argmax()
    print(path, signature["classes"][best], probabilities[0, best], sep="\\t")
"""


def python(preprocess: dict[str, Any] | None, entry: str) -> str:
    """Give a script that answers the files it is called with; empty where only tensors are taken.

    Args:
        preprocess: as the signature has it.
        entry: name of the graph's input.
    """
    if preprocess is None or preprocess.get("features"):
        return ""
    if preprocess["kind"] == "table":
        return (TABLE + ANSWER).format(input=entry, empty=MISSING)
    if preprocess["kind"] == "text":
        return (TEXT + ANSWER).format(input=entry)
    spec = ImageSpec.from_json(preprocess)
    return (IMAGE + ANSWER).format(
        formats=FORMATS,
        mode="L" if spec.channels == 1 else "RGB",
        width=spec.width,
        height=spec.height,
        channels=spec.channels,
        spare_px=spec.spare_px,
        input=entry,
    )
