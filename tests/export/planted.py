"""Defects that an export must not let through, each planted in one of four places.

In the project (`CODE`), in the graph between building and measuring (`GRAPH`), in what INT8 is
calibrated with (`CALIBRATION`), or in a finished package (`PACKAGE`).
`benchmarks/export_defects.py` plants all of them; the tests a part.
"""

import hashlib
import itertools
import json
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import hidden
import numpy as np
import onnx
import pyarrow as pa
from export_runs import RUN, finish
from fatal_graphs import fatal
from onnx import TensorProto, helper, numpy_helper

from mlstack.records import dataset, package

Plant = Callable[[Path], None]
CODE: dict[str, Plant] = {}
GRAPH: dict[str, Callable[[onnx.ModelProto], None]] = {}
CALIBRATION: dict[str, Callable[[np.ndarray], np.ndarray]] = {}
PACKAGE: dict[str, Plant] = {}


# --- in the project -------------------------------------------------------------------------------


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, old
    path.write_text(text.replace(old, new))


def _data(new: str) -> Plant:
    old = "torch.from_numpy(images[places[rows]])"
    return lambda root: edit(root / "my_project/data.py", old, new)


def _model(new: str) -> Plant:
    old = "return self.body((x - 0.3) / 0.35)"
    return lambda root: edit(root / "my_project/model.py", old, new)


CODE["inputs halved in the data module"] = _data("torch.from_numpy(images[places[rows]] // 2)")
CODE["inputs inverted"] = _data("torch.from_numpy(255 - images[places[rows]])")
CODE["inputs mirrored"] = _data("torch.from_numpy(images[places[rows]]).flip(2)")
CODE["rows and columns exchanged"] = _data("torch.from_numpy(images[places[rows]]).transpose(1, 2)")
CODE["scaled in the data module"] = _data("torch.from_numpy(images[places[rows]]).float() / 255")
CODE["resized without antialiasing"] = _data(
    "torch.from_numpy(images[places[rows]])[:, ::2, ::2].repeat_interleave(2, 1)"
    ".repeat_interleave(2, 2)"
)
CODE["answers by its batch"] = _model(
    "x = self.body((x - 0.3) / 0.35)\n        return x - x.mean(dim=0, keepdim=True)"
)
CODE["dropout in eval mode"] = _model(
    "return functional.dropout(self.body((x - 0.3) / 0.35), training=True)"
)
CODE["noise in forward"] = _model(
    "return self.body((x - 0.3) / 0.35) + 0.01 * torch.randn(len(x), 1)"
)
CODE["batch norm in training mode"] = _model(
    "for m in self.modules():\n"
    "            if isinstance(m, nn.BatchNorm2d): m.training = True\n"
    "        return self.body((x - 0.3) / 0.35)"
)
CODE["another mean than in training"] = _model("return self.body((x - 0.6) / 0.1)")
CODE["divided by nothing"] = _model("return self.body((x - 0.3) / (x.std() * 0))")


def _other_weights(root: Path) -> None:
    """The run logged another accuracy than its checkpoint gives."""
    finish(root / ".mlstack/runs" / RUN, **{"test/acc": 0.4})


def _examples(change: Callable[[list[dict]], None]) -> Plant:
    def plant(root: Path) -> None:
        path = root / ".mlstack/runs" / RUN / dataset.EXAMPLES
        rows = dataset.read_examples(path).to_pylist()
        change(rows)
        dataset.write_examples(path, pa.Table.from_pylist(rows, schema=dataset.EXAMPLES_SCHEMA))

    return plant


def _leak(rows: list[dict]) -> None:
    train = next(row for row in rows if row["split"] == "train")
    rows.append(train | {"split": "test"})


def _relabel(rows: list[dict]) -> None:
    for row in rows:
        row["target"] = {3: 8, 8: 3}.get(row["target"], row["target"])


def _swap_classes(root: Path) -> None:
    path = root / ".mlstack/runs" / RUN / "run.json"
    spec = json.loads(path.read_text())
    spec["classes"][3], spec["classes"][8] = spec["classes"][8], spec["classes"][3]
    path.write_text(json.dumps(spec))


CODE["weights of another run"] = _other_weights
CODE["an example in train and test"] = _examples(_leak)
CODE["targets of two classes exchanged"] = _examples(_relabel)
CODE["names of two classes exchanged"] = _swap_classes


# --- in the graph ---------------------------------------------------------------------------------


def graph_fault(name: str) -> Callable:
    def keep(plant: Callable[[onnx.ModelProto], None]) -> Callable:
        GRAPH[name] = plant
        return plant

    return keep


def _after(model: onnx.ModelProto, tensor: str, *nodes: onnx.NodeProto) -> None:
    """Put nodes behind the one that gives `tensor`; the first reads `before`, the last gives it."""
    graph = model.graph
    place = next(i for i, n in enumerate(graph.node) if tensor in n.output)
    outputs = graph.node[place].output
    outputs[list(outputs).index(tensor)] = "before"
    for number, node in enumerate(nodes, start=1):
        graph.node.insert(place + number, node)


def _constant(model: onnx.ModelProto, name: str, value: np.ndarray) -> str:
    model.graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def _weights(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    return [t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT and t.dims]


def _change_weights(model: onnx.ModelProto, change: Callable[[np.ndarray], np.ndarray]) -> None:
    for tensor in _weights(model):
        changed = change(numpy_helper.to_array(tensor).copy()).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))


@graph_fault("the batch is always two")
def _static_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2


@graph_fault("a reshape with the batch baked in")
def _baked(model: onnx.ModelProto) -> None:
    shape = _constant(model, "baked", np.array([2, 10], np.int64))
    _after(model, "logits", helper.make_node("Reshape", ["before", shape], ["logits"]))


@graph_fault("right at one batch size only")
def _one_size(model: onnx.ModelProto) -> None:
    size = _constant(model, "size", np.array([32], np.int64))
    _constant(model, "one", np.array([1], np.float32))
    _constant(model, "part", np.array([0.5], np.float32))
    first = _constant(model, "first", np.array([0], np.int64))
    _after(
        model,
        "logits",
        helper.make_node("Shape", ["before"], ["sizes"]),
        helper.make_node("Gather", ["sizes", first], ["rows"]),
        helper.make_node("Equal", ["rows", size], ["is_right"]),
        helper.make_node("Where", ["is_right", "one", "part"], ["factor"]),
        helper.make_node("Mul", ["before", "factor"], ["logits"]),
    )


@graph_fault("each row takes the mean of its batch")
def _batch_mean(model: onnx.ModelProto) -> None:
    axes = _constant(model, "batch_axis", np.array([0], np.int64))
    _after(
        model,
        "logits",
        helper.make_node("ReduceMean", ["before", axes], ["of_batch"], keepdims=1),
        helper.make_node("Sub", ["before", "of_batch"], ["logits"]),
    )


@graph_fault("noise in the graph")
def _noise(model: onnx.ModelProto) -> None:
    _after(
        model,
        "logits",
        helper.make_node("RandomNormalLike", ["before"], ["noise"], scale=1e-7),
        helper.make_node("Add", ["before", "noise"], ["logits"]),
    )


@graph_fault("logits clipped")
def _clipped(model: onnx.ModelProto) -> None:
    _constant(model, "low", np.array(-2, np.float32))
    _constant(model, "high", np.array(2, np.float32))
    _after(model, "logits", helper.make_node("Clip", ["before", "low", "high"], ["logits"]))


@graph_fault("two classes exchanged in the graph")
def _classes(model: onnx.ModelProto) -> None:
    order = np.arange(10)
    order[[3, 8]] = order[[8, 3]]
    _constant(model, "order", order.astype(np.int64))
    _after(model, "logits", helper.make_node("Gather", ["before", "order"], ["logits"], axis=1))


@graph_fault("no softmax")
def _no_softmax(model: onnx.ModelProto) -> None:
    (node,) = [n for n in model.graph.node if "probabilities" in n.output]
    node.op_type = "Identity"
    del node.attribute[:]


@graph_fault("logits and probabilities exchanged")
def _exchanged(model: onnx.ModelProto) -> None:
    names = {"logits": "probabilities", "probabilities": "logits"}
    for node in model.graph.node:
        for values in (node.input, node.output):
            values[:] = [names.get(v, v) for v in values]
    for output in model.graph.output:
        output.name = names[output.name]


@graph_fault("weights in BF16")
def _bf16(model: onnx.ModelProto) -> None:
    _change_weights(model, lambda w: (w.view(np.uint32) & 0xFFFF0000).view(np.float32))


@graph_fault("weights in INT8 without saying so")
def _rounded(model: onnx.ModelProto) -> None:
    _change_weights(model, lambda w: np.round(w / np.abs(w).max() * 127) / 127 * np.abs(w).max())


@graph_fault("one filter of zeros")
def _dead_filter(model: onnx.ModelProto) -> None:
    tensor = next(t for t in _weights(model) if len(t.dims) == 4)
    weights = numpy_helper.to_array(tensor).copy()
    weights[0] = 0
    tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))


@graph_fault("one weight is not a number")
def _nan(model: onnx.ModelProto) -> None:
    tensor = next(t for t in _weights(model) if len(t.dims) == 4)
    weights = numpy_helper.to_array(tensor).copy()
    weights.flat[0] = np.nan
    tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))


@graph_fault("overflows on white images")
def _overflow(model: onnx.ModelProto) -> None:
    # A square root that no real digit drives below zero, an all-white image does.
    cast = next(n for n in model.graph.node if n.op_type == "Cast")
    name, seen = cast.output[0], "bright"
    axes = _constant(model, "all_axes", np.array([1, 2, 3], np.int64))
    _constant(model, "limit", np.array(250, np.float32))
    _constant(model, "nothing", np.array(0, np.float32))
    _after(
        model,
        name,
        helper.make_node("ReduceMean", ["before", axes], [seen], keepdims=1),
        helper.make_node("Sub", ["limit", seen], ["left"]),
        helper.make_node("Sqrt", ["left"], ["root"]),
        helper.make_node("Mul", ["root", "nothing"], ["zero"]),
        helper.make_node("Add", ["before", "zero"], [name]),
    )


@graph_fault("asks for 32 GiB")
def _bomb(model: onnx.ModelProto) -> None:
    shape = _constant(model, "huge", np.array([1 << 18, 1 << 15], np.int64))
    _after(
        model,
        "logits",
        helper.make_node("ConstantOfShape", [shape], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["none"], keepdims=0),
        helper.make_node("Add", ["before", "none"], ["logits"]),
    )


@graph_fault("an operator of a foreign domain")
def _foreign(model: onnx.ModelProto) -> None:
    _after(model, "logits", helper.make_node("Shell", ["before"], ["logits"], domain="com.evil"))


@graph_fault("weights in another file")
def _external(model: onnx.ModelProto) -> None:
    tensor = _weights(model)[0]
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "weights.bin"


def _functions(model: onnx.ModelProto, count: int, calls: int) -> None:
    """Let the logits go through a function that calls the next one, and that the next."""
    opset = [helper.make_opsetid("", 20), helper.make_opsetid("f", 1)]
    for number in range(count):
        names = ["a", *(f"t{i}" for i in range(calls - 1)), "c"]
        body = [
            helper.make_node(f"F{number + 1}", [before], [after], domain="f")
            for before, after in itertools.pairwise(names)
        ]
        model.functions.append(helper.make_function("f", f"F{number}", ["a"], ["c"], body, opset))
    last = [helper.make_node("Identity", ["a"], ["c"])]
    model.functions.append(helper.make_function("f", f"F{count}", ["a"], ["c"], last, opset))
    model.opset_import.append(helper.make_opsetid("f", 1))
    _after(model, "logits", helper.make_node("F0", ["before"], ["logits"], domain="f"))


graph_fault("ends the process that opens it")(fatal)


@graph_fault("calls functions 3,000 deep")
def _deep(model: onnx.ModelProto) -> None:
    _functions(model, 3_000, 1)  # onnxruntime 1.31.1 runs out of stack: SIGSEGV


@graph_fault("unfolds to 2,000,000,000,000 nodes")
def _unfolds(model: onnx.ModelProto) -> None:
    _functions(model, 40, 2)


# --- in what INT8 is calibrated with --------------------------------------------------------------

CALIBRATION["calibrated on black images"] = np.zeros_like
CALIBRATION["calibrated on faint images"] = lambda images: images // 8
CALIBRATION["calibrated on scaled images"] = lambda images: images // 255


# --- in a package ---------------------------------------------------------------------------------


def package_fault(name: str) -> Callable:
    def keep(plant: Plant) -> Plant:
        PACKAGE[name] = plant
        return plant

    return keep


def sign(folder: Path) -> None:
    """Make the manifest true again, as an attacker would."""
    path = folder / package.SIDE / package.MANIFEST
    manifest = json.loads(path.read_text())
    found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    found.pop(f"{package.SIDE}/{package.MANIFEST}")
    found.pop(f"{package.SIDE}/{package.SEAL}", None)
    manifest["files"] = {
        name: hashlib.sha256(p.read_bytes()).hexdigest() for name, p in sorted(found.items())
    }
    path.write_text(json.dumps(manifest))


def _golden(folder: Path, change: Callable[[dict], None]) -> None:
    path = folder / package.SIDE / "golden.json"
    golden = json.loads(path.read_text())
    change(golden)
    path.write_text(json.dumps(golden))
    sign(folder)


def _in_graph(folder: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    model = onnx.load(folder / package.MODEL)
    change(model)
    (folder / package.MODEL).write_bytes(model.SerializeToString())
    sign(folder)


@package_fault("a truncated graph")
def _truncated(folder: Path) -> None:
    os.truncate(folder / package.MODEL, (folder / package.MODEL).stat().st_size // 2)


@package_fault("a card that promises more")
def _card(folder: Path) -> None:
    edit(folder / "README.md", "classes", "wonderful classes")


@package_fault("a file that nobody named")
def _extra(folder: Path) -> None:
    (folder / "custom_ops.so").write_bytes(b"\x7fELF")


@package_fault("no manifest")
def _no_manifest(folder: Path) -> None:
    (folder / package.SIDE / package.MANIFEST).unlink()


@package_fault("a graph that is a link")
def _symlink(folder: Path) -> None:
    outside = folder.with_name("outside.onnx")
    shutil.move(folder / package.MODEL, outside)
    (folder / package.MODEL).symlink_to(outside)


@package_fault("weights in a hard link beside the graph")
def _external_link(folder: Path) -> None:
    secret = folder.with_name("secret.bin")
    secret.write_bytes(bytes(1 << 16))
    (folder / "weights.bin").hardlink_to(secret)
    _in_graph(folder, _external)


@package_fault("a golden example above the package")
def _traversal(folder: Path) -> None:
    shutil.copy(folder / package.SIDE / "golden/00.png", folder.with_name("stolen.png"))

    def change(golden: dict) -> None:
        golden["examples"][0]["file"] = "../../../stolen.png"

    _golden(folder, change)


@package_fault("a golden example at an absolute path")
def _absolute(folder: Path) -> None:
    stolen = folder.with_name("stolen.png")
    shutil.copy(folder / package.SIDE / "golden/00.png", stolen)

    def change(golden: dict) -> None:
        golden["examples"][0]["file"] = str(stolen.resolve())

    _golden(folder, change)


@package_fault("a manifest that names a file above the package")
def _manifest_traversal(folder: Path) -> None:
    outside = folder.with_name("outside.txt")
    outside.write_text("secret")
    path = folder / package.SIDE / package.MANIFEST
    manifest = json.loads(path.read_text())
    manifest["files"]["../outside.txt"] = hashlib.sha256(b"secret").hexdigest()
    path.write_text(json.dumps(manifest))


@package_fault("a picture of 4 gigapixels")
def _bomb_picture(folder: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", 65_500, 65_500, 8, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    content += chunk(b"IDAT", zlib.compress(bytes(1 << 20))) + chunk(b"IEND", b"")
    (folder / package.SIDE / "golden/00.png").write_bytes(content)
    sign(folder)


@package_fault("other weights than it was written with")
def _other(folder: Path) -> None:
    _in_graph(folder, lambda model: _change_weights(model, lambda w: w * 1.3))


@package_fault("a graph that asks for 32 GiB")
def _package_bomb(folder: Path) -> None:
    _in_graph(folder, _bomb)


@package_fault("a graph that ends the process that opens it")
def _package_fatal(folder: Path) -> None:
    _in_graph(folder, fatal)


@package_fault("a graph that calls functions 3,000 deep")
def _package_deep(folder: Path) -> None:
    _in_graph(folder, _deep)


@package_fault("functions behind tags that libraries cut to 32 bits")
def _hidden_functions(folder: Path) -> None:
    model = onnx.load(folder / package.MODEL)
    _deep(model)
    functions = [f.SerializeToString() for f in model.functions]
    del model.functions[1:]
    rest = b"".join(hidden.hidden(25, f) for f in functions[1:])
    (folder / package.MODEL).write_bytes(model.SerializeToString() + rest)
    sign(folder)


def _move_weights(folder: Path) -> tuple[onnx.ModelProto, TensorProto]:
    """Take weights out of a graph and put them into a file beside it."""
    model = onnx.load(folder / package.MODEL)
    tensor = _weights(model)[0]
    (folder / "w.bin").write_bytes(tensor.raw_data)
    model.graph.initializer.remove(tensor)
    tensor.ClearField("raw_data")
    return model, tensor


def _with_weights(folder: Path, model: onnx.ModelProto, tensor: bytes) -> None:
    graph = model.graph.SerializeToString() + hidden.part(5, tensor)
    model.ClearField("graph")
    model_bytes = model.SerializeToString() + hidden.part(7, graph)
    (folder / package.MODEL).write_bytes(model_bytes)
    sign(folder)


@package_fault("weights beside the graph, behind tags that libraries cut to 32 bits")
def _hidden_external(folder: Path) -> None:
    model, tensor = _move_weights(folder)
    entry = onnx.StringStringEntryProto(key="location", value="w.bin").SerializeToString()
    secret = hidden.hidden(14, 1) + hidden.hidden(13, entry)
    _with_weights(folder, model, tensor.SerializeToString() + secret)


@package_fault("weights beside the graph, as the default of a function")
def _default_external(folder: Path) -> None:
    model, tensor = _move_weights(folder)
    given = hidden.default(model, "w.bin")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w.bin")
    given.attribute_proto[0].t.CopyFrom(tensor)
    model.graph.node.insert(0, helper.make_node("F", [], [tensor.name], domain="f"))
    (folder / package.MODEL).write_bytes(model.SerializeToString())
    sign(folder)


@package_fault("a file with a second name outside")
def _second_name(folder: Path) -> None:
    folder.with_name("card.md").hardlink_to(folder / "README.md")


@package_fault("a graph that unfolds to 2,000,000,000,000 nodes")
def _package_unfolds(folder: Path) -> None:
    _in_graph(folder, _unfolds)


@package_fault("a graph with a foreign operator")
def _package_foreign(folder: Path) -> None:
    _in_graph(folder, _foreign)


@package_fault("a pickle for a tensor")
def _pickle(folder: Path) -> None:
    (folder / package.SIDE / "golden/00.npy").write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    signature = folder / package.SIDE / "signature.json"
    given = json.loads(signature.read_text())
    given["preprocess"] = None
    signature.write_text(json.dumps(given))

    def change(golden: dict) -> None:
        golden["examples"] = [golden["examples"][0] | {"file": "00.npy"}]

    _golden(folder, change)


@package_fault("24,000 golden examples")
def _many(folder: Path) -> None:
    def change(golden: dict) -> None:
        golden["examples"] = golden["examples"] * 2000

    _golden(folder, change)


@package_fault("a file of 3 GiB of holes")
def _sparse(folder: Path) -> None:
    with (folder / package.MODEL).open("ab") as stream:
        stream.truncate(3 << 30)


@package_fault("golden answers that were made up")
def _made_up(folder: Path) -> None:
    def change(golden: dict) -> None:
        golden["examples"][3]["probabilities"] = [0.1] * 10

    _golden(folder, change)


@package_fault("no golden examples at all")
def _none(folder: Path) -> None:
    _golden(folder, lambda golden: golden.update(examples=[]))
