"""Whatever protobuf's own libraries find in a file, the reader that looks for harm finds too."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import numpy as np
import onnx
import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError
from hidden import HARM, QUIRKS, hidden, number, odd, part, seen
from onnx import TensorProto, checker, helper, numpy_helper, shape_inference
from test_export_safety import plain, saved

from mlstack.errors import DataError
from mlstack.records import graph_safety
from mlstack.records.graph_safety import check_graph

CASES = 1500
NOT_READ = (ValueError, shape_inference.InferenceError, checker.ValidationError)


def is_refused(content: bytes, path: Path) -> bool:
    path.write_bytes(content)
    try:
        check_graph(path)
    except DataError as error:
        assert error.hint
        return True
    return False


def readings(content: bytes) -> Iterator[onnx.ModelProto]:
    """Read a file as Python's library does, and as the one in C++ that onnxruntime has too."""
    with contextlib.suppress(DecodeError):
        yield onnx.load_from_string(content)
    with contextlib.suppress(DecodeError, *NOT_READ):
        yield shape_inference.infer_shapes(content)


def test_what_a_library_sees_in_an_odd_file_is_refused(tmp_path: Path) -> None:
    source = Random(5)
    path = tmp_path / "model.onnx"
    harmful: Counter[str] = Counter()

    assert not seen(plain())
    for case in range(CASES):
        quirk = QUIRKS[case % len(QUIRKS)]
        model = plain()
        HARM[source.choice(sorted(HARM))](model)
        content = odd(model, quirk, source)
        harm = set().union(*(seen(m) for m in readings(content)))

        assert is_refused(content, path) or not harm, (case, quirk, harm)
        harmful[quirk] += bool(harm)

    assert min(harmful[quirk] for quirk in QUIRKS) > CASES / len(QUIRKS) / 4, harmful


@pytest.mark.parametrize("name", sorted(HARM))
def test_harm_is_refused_wherever_a_graph_can_hold_it(tmp_path: Path, name: str) -> None:
    model = plain()
    HARM[name](model)

    assert is_refused(model.SerializeToString(), tmp_path / "model.onnx")


def with_weights(tensor: bytes) -> bytes:
    model = plain()
    del model.graph.initializer[:]
    graph = model.graph.SerializeToString() + part(5, tensor)
    model.ClearField("graph")
    return model.SerializeToString() + part(7, graph)


PLAIN = numpy_helper.from_array(np.ones((4, 2), np.float32), "weights").SerializeToString()


@pytest.mark.parametrize(
    "tail",
    [
        hidden(14, 1),
        number(14 << 3) + number(1 + (1 << 32)),
        number(14 << 3, 2) + b"\1",
        number(14 << 3) + number(1, 3),
        number(99 << 3 | 3) + number(14 << 3) + b"\1" + number(99 << 3 | 4),
    ],
    ids=["tag over 32 bits", "number over 32 bits", "long tag", "long number", "group"],
)
def test_each_way_to_hide_where_weights_lie_is_refused(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "model.onnx"

    assert not is_refused(with_weights(PLAIN), path)
    assert is_refused(with_weights(PLAIN + tail), path)


def test_every_field_of_onnx_that_leads_to_harm_is_looked_at() -> None:
    """Read the fields from onnx itself: a new one fails here before it hides anything."""
    kinds = {
        "model": onnx.ModelProto,
        "graph": onnx.GraphProto,
        "function": onnx.FunctionProto,
        "node": onnx.NodeProto,
        "attribute": onnx.AttributeProto,
        "tensor": onnx.TensorProto,
    }
    harmful = {kind.DESCRIPTOR.full_name for kind in kinds.values()}

    assert kinds.keys() == graph_safety.INSIDE.keys()
    for kind, message in kinds.items():
        inside, never = graph_safety.INSIDE[kind], graph_safety.NEVER[kind]
        looked_at = {*inside, *never, *graph_safety.NAMES.get(kind, ())}
        if kind == "tensor":
            looked_at.add(graph_safety.TENSOR_LOCATION)
        fields = {one.number: one for one in message.DESCRIPTOR.fields}
        assert fields.keys() == looked_at | graph_safety.PLAIN[kind]
        assert not looked_at & graph_safety.PLAIN[kind]
        for one in (fields[harmless] for harmless in graph_safety.PLAIN[kind]):
            assert one.message_type is None or not harmful & reachable(one.message_type)
        for field, target in inside.items():
            assert fields[field].message_type is kinds[target].DESCRIPTOR


def reachable(start: Descriptor) -> set[str]:
    found, left = {start.full_name}, [start]
    while left:
        for inner in (one.message_type for one in left.pop().fields if one.message_type):
            if inner.full_name not in found:
                found.add(inner.full_name)
                left.append(inner)
    return found


@pytest.mark.parametrize(
    "graph",
    [
        lambda: b"\x0a\x00" * 4_000_000,
        lambda: part(1, b"\x2a\x00" * 4_000_000),
        lambda: part(1, part(5, b"\x40\x01" * 100_000_000)),
        lambda: part(1, part(5, b"\x4a\x00" * 4_000_000)),
        lambda: part(5, b"\x08\x01" * 4_000_000),
    ],
    ids=["nodes", "attributes", "numbers", "strings", "sizes"],
)
def test_a_file_of_millions_of_fields_is_refused_soon(
    tmp_path: Path, graph: Callable[[], bytes]
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(part(7, graph()))

    began = time.process_time()
    with pytest.raises(DataError, match="more than"):
        check_graph(path)

    assert time.process_time() - began < 6  # a second on a machine that does nothing else


def test_large_weights_and_a_large_forest_are_let_through(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    size = 1 << 29
    head = TensorProto(name="weights", data_type=1, dims=[1 << 27]).SerializeToString()
    head += number(9 << 3 | 2) + number(size)
    graph = number(5 << 3 | 2) + number(len(head) + size) + head
    with path.open("wb") as stream:
        stream.write(number(7 << 3 | 2) + number(len(graph) + size) + graph)
        stream.truncate(stream.tell() + size)
    began = time.process_time()

    check_graph(path)

    assert time.process_time() - began < 0.1
    forest = plain()
    lists = {f"list{i}": list(range(300_000)) for i in range(5)}
    floats = {"thresholds": [0.5] * 300_000}
    forest.graph.node.append(
        helper.make_node("Trees", ["x"], ["y"], domain="ai.onnx.ml", **lists, **floats)
    )
    check_graph(saved(forest, tmp_path))


@pytest.mark.parametrize("name", ["EPContext", "ATen"])
def test_operators_that_run_what_is_not_in_the_graph_are_refused(tmp_path: Path, name: str) -> None:
    model = plain()
    model.graph.node.add(op_type=name, domain="com.microsoft")
    opset = [helper.make_opsetid("", 20)]
    body = [helper.make_node("Identity", ["a"], ["c"])]
    named = helper.make_function("com.microsoft", name, ["a"], ["c"], body, opset)

    with pytest.raises(DataError, match=name):
        check_graph(saved(model, tmp_path))
    model.functions.append(named)  # a namesake, which the library may pass over
    with pytest.raises(DataError, match=name):
        check_graph(saved(model, tmp_path))


@pytest.mark.parametrize(
    ("domain", "words"), [("e" * 2000, "more than 1,000 bytes"), ("\x1b[2J", "cannot be printed")]
)
def test_names_that_would_harm_whoever_reads_the_error_are_refused(
    tmp_path: Path, domain: str, words: str
) -> None:
    model = plain()
    model.graph.node.add(op_type="Shell", domain=domain)

    with pytest.raises(DataError, match=words):
        check_graph(saved(model, tmp_path))


def test_a_file_that_is_gone_or_a_device_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.onnx", tmp_path, Path("/dev/zero")):
        with pytest.raises(DataError):
            check_graph(path)


def test_the_other_name_of_the_plain_domain_hides_no_function(tmp_path: Path) -> None:
    model = plain()
    for one, other in (("F", "G"), ("G", "F")):
        node = helper.make_node(other, ["a"], ["c"])
        opset = [helper.make_opsetid("", 20)]
        model.functions.append(helper.make_function("ai.onnx", one, ["a"], ["c"], [node], opset))

    with pytest.raises(DataError, match="unfolds to more than"):
        check_graph(saved(model, tmp_path))


def test_weights_that_functions_repeat_are_counted(tmp_path: Path) -> None:
    model = plain()
    weights = numpy_helper.from_array(np.zeros(1 << 20, np.float32), "w")
    constant = helper.make_node("Constant", [], ["c"], value=weights)
    opset = [helper.make_opsetid("", 20)]
    model.functions.append(helper.make_function("f", "F", [], ["c"], [constant], opset))
    call = helper.make_node("F", [], ["c"], domain="f")

    model.graph.node.extend([call] * 500)
    check_graph(saved(model, tmp_path))
    model.graph.node.extend([call] * 500)
    with pytest.raises(DataError, match="2 GiB"):
        check_graph(saved(model, tmp_path))


def test_functions_and_graphs_that_nest_deep_only_together_are_refused(tmp_path: Path) -> None:
    def chain(count: int) -> onnx.ModelProto:
        model = plain()
        opset = [helper.make_opsetid("", 20)]
        for i in range(count):
            call = helper.make_node(f"F{i + 1}" if i + 1 < count else "Relu", ["a"], ["c"])
            call.domain = "f" if i + 1 < count else ""
            for _ in range(10):
                out = helper.make_tensor_value_info("c", TensorProto.FLOAT, None)
                inner = helper.make_graph([call], "inner", [], [out])
                call = helper.make_node("If", ["a"], ["c"], then_branch=inner)
            made = helper.make_function("f", f"F{i}", ["a"], ["c"], [call], opset)
            model.functions.append(made)
        return model

    check_graph(saved(chain(5), tmp_path))
    with pytest.raises(DataError, match="deeper than 64"):
        check_graph(saved(chain(7), tmp_path))
