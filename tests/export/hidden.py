"""Graphs written by hand: harm wherever a graph can hold it, in bytes that no library writes."""

from collections.abc import Callable, Iterator
from random import Random

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from onnx import TensorProto, helper

Harm = Callable[[onnx.ModelProto], object]
HARM: dict[str, Harm] = {}
DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}


# --- what no package may hold ---------------------------------------------------------------------


def harm(name: str) -> Callable[[Harm], Harm]:
    def keep(plant: Harm) -> Harm:
        HARM[name] = plant
        return plant

    return keep


def external(name: str = "outside", location: str = "w.bin") -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4, 2])
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    return tensor


def constant(**value: object) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["unused"], **value)


def branch(*nodes: onnx.NodeProto, weights: tuple = ()) -> onnx.NodeProto:
    out = helper.make_tensor_value_info("unused", TensorProto.FLOAT, None)
    inner = helper.make_graph(list(nodes), "inner", [], [out], list(weights))
    return helper.make_node("If", ["flag"], ["never"], then_branch=inner, else_branch=inner)


def function(*nodes: onnx.NodeProto, domain: str = "f", defaults: tuple = ()) -> onnx.FunctionProto:
    opset = [helper.make_opsetid("", 20)]
    return helper.make_function(
        domain, "F", [], ["unused"], list(nodes), opset, attribute_protos=list(defaults)
    )


def default(model: onnx.ModelProto, location: str) -> onnx.FunctionProto:
    """Let a function give a tensor that is the default of its attribute, from another file."""
    node = constant()
    value = node.attribute.add(name="value", ref_attr_name="v", type=onnx.AttributeProto.TENSOR)
    assert value.ref_attr_name
    given = function(node, defaults=(helper.make_attribute("v", external(location=location)),))
    model.functions.append(given)
    model.opset_import.append(helper.make_opsetid("f", 1))
    return given


EVIL = helper.make_node("Shell", ["input"], ["unused"], domain="com.evil")
SPARSE = onnx.SparseTensorProto(values=external(), indices=external(), dims=[8])

HARM["an initializer"] = lambda m: m.graph.initializer.append(external())
HARM["a constant"] = lambda m: m.graph.node.append(constant(value=external()))
HARM["an initializer of a branch"] = lambda m: m.graph.node.append(branch(weights=(external(),)))
HARM["a constant of a branch"] = lambda m: m.graph.node.append(branch(constant(value=external())))
HARM["a constant of a function"] = lambda m: m.functions.append(
    function(constant(value=external()))
)
HARM["a default of a function"] = lambda m: default(m, "w.bin")
HARM["a sparse initializer"] = lambda m: m.graph.sparse_initializer.append(SPARSE)
HARM["a sparse constant"] = lambda m: m.graph.node.append(constant(sparse_value=SPARSE))
HARM["a foreign operator of a branch"] = lambda m: m.graph.node.append(branch(EVIL))
HARM["a foreign operator of a function"] = lambda m: m.functions.append(function(EVIL))


@harm("a foreign operator")
def _foreign(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.evil", 1))
    model.graph.node.append(EVIL)


@harm("a list of tensors")
def _tensors(model: onnx.ModelProto) -> None:
    value = constant().attribute.add(name="v", type=onnx.AttributeProto.TENSORS)
    value.tensors.append(external())
    model.graph.node.add(op_type="Constant", output=["unused"]).attribute.append(value)


@harm("a list of graphs")
def _graphs(model: onnx.ModelProto) -> None:
    value = constant().attribute.add(name="v", type=onnx.AttributeProto.GRAPHS)
    value.graphs.add(name="inner").initializer.append(external())
    model.graph.node.add(op_type="Constant", output=["unused"]).attribute.append(value)


@harm("a graph that trains")
def _training(model: onnx.ModelProto) -> None:
    model.training_info.add().algorithm.initializer.append(external())


@harm("an operator of a domain that has a function, but not this one")
def _namesake(model: onnx.ModelProto) -> None:
    model.functions.append(function(constant(value_float=1.0), domain="com.evil"))
    _foreign(model)


def seen(model: onnx.ModelProto) -> set[str]:
    """Name the harm that a library sees in a model."""
    functions = {(f.domain, f.name) for f in model.functions}
    return {found for part in _parts(model) for found in _harm(part, functions)}


def _parts(message: Message) -> Iterator[Message]:
    yield message
    for one, value in message.ListFields():
        if one.message_type is not None:
            for inner in value if one.is_repeated else [value]:
                yield from _parts(inner)


def _harm(part: Message, functions: set[tuple[str, str]]) -> Iterator[str]:
    if isinstance(part, TensorProto) and (part.data_location or part.external_data):
        yield "other files"
    if isinstance(part, onnx.NodeProto):
        own = (part.domain, part.op_type) in functions
        if part.domain not in DOMAINS and not own:
            yield "foreign operator"


# --- how no library writes it ---------------------------------------------------------------------


def number(value: int, longer: int = 0) -> bytes:
    """Write a number; with some bytes more than it needs."""
    rest = [value >> 7 * i & 0x7F for i in range(max(1, -(-value.bit_length() // 7)) + longer)]
    return bytes([b | 0x80 for b in rest[:-1]] + rest[-1:])


def hidden(field: int, content: bytes | int) -> bytes:
    """Write a field behind a tag of five bytes, which libraries cut to 32 bits."""
    if isinstance(content, int):
        return number(field << 3 | 1 << 32) + number(content)
    return number(field << 3 | 2 | 1 << 32) + number(len(content)) + content


def part(field: int, content: bytes) -> bytes:
    return number(field << 3 | 2) + number(len(content)) + content


QUIRKS = ("none", "tag", "longer tag", "longer size", "number", "twice", "group", "list", "bytes")


def odd(message: Message, quirk: str, source: Random) -> bytes:
    """Write a message with one kind of oddity at random places."""
    written = b"".join(_odd_fields(message, quirk, source))
    if quirk == "bytes" and written and source.random() < 0.05:
        place = source.randrange(len(written))
        return written[:place] + source.randbytes(1) + written[place + 1 :]
    return written


def _odd_fields(message: Message, quirk: str, source: Random) -> Iterator[bytes]:
    for one, value in message.ListFields():
        for inner in value if one.is_repeated else [value]:
            is_odd = source.random() < 0.3
            if quirk == "group" and is_odd:
                yield number(99 << 3 | 3) + number(99 << 3 | 4)
            if quirk == "list" and is_odd:
                yield source.choice([b"\x40\x01\x40\x7f", b"\x3d\x3d\x3d\x3d\x3d", b"\x40\x40"])
            if one.message_type is None:
                yield _scalar(message, one, quirk if is_odd else "none")
                break
            else:
                content = odd(inner, quirk, source)
                yield _tagged(one.number << 3 | 2, content, quirk if is_odd else "none")


def _scalar(message: Message, one: FieldDescriptor, quirk: str) -> bytes:
    value = getattr(message, one.name)
    if not one.is_repeated and one.enum_type is not None:
        if quirk == "number":  # a library cuts it to 32 bits
            value |= 1 << 32
        return _tag(one.number << 3, quirk) + number(value, int(quirk == "longer size"))
    if not one.is_repeated and isinstance(value, str):
        return _tagged(one.number << 3 | 2, value.encode(), quirk)
    alone = type(message)()
    if one.is_repeated:
        getattr(alone, one.name).extend(value)
    else:
        setattr(alone, one.name, value)
    return alone.SerializeToString()


def _tagged(tag: int, content: bytes, quirk: str) -> bytes:
    whole = _tag(tag, quirk) + number(len(content), int(quirk == "longer size")) + content
    return whole * 2 if quirk == "twice" else whole


def _tag(tag: int, quirk: str) -> bytes:
    return number(tag | (1 << 32 if quirk == "tag" else 0), int(quirk == "longer tag"))
