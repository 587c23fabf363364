"""Graphs that must not be opened, and graphs that must not take the machine down."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlstack.errors import DataError, GateError, StepError
from mlstack.export import ask
from mlstack.export.handover import ReplayRequest
from mlstack.launch.worker import run_worker
from mlstack.records import base
from mlstack.records.graph_safety import check_graph
from mlstack.records.package import Golden, GoldenExample, Signature, Tensor


def model(nodes: list, initializers: tuple = ()) -> onnx.ModelProto:
    """A graph over uint8 (batch, 4) that gives logits and probabilities."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("input", TensorProto.UINT8, ["batch", 4])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, None),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, None),
        ],
        list(initializers),
    )
    opset = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10)


def plain() -> onnx.ModelProto:
    weights = numpy_helper.from_array(np.ones((4, 2), np.float32), "weights")
    nodes = [
        helper.make_node("Cast", ["input"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    return model(nodes, (weights,))


def saved(content: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(content.SerializeToString())
    return path


def package(content: onnx.ModelProto, folder: Path) -> Path:
    saved(content, folder)
    golden = folder / "mlstack/golden"
    golden.mkdir(parents=True)
    np.save(golden / "00.npy", np.zeros(4, np.uint8))
    example = GoldenExample(file="00.npy", label="a", prediction="a", probabilities=[0.5, 0.5])
    base.write(folder / "mlstack/golden.json", Golden(tolerance=1e-3, examples=[example]))
    entry = Tensor(name="input", datatype="UINT8", shape=[-1, 4])
    outputs = [Tensor(name=n, datatype="FP32", shape=[-1, 2]) for n in ("logits", "probabilities")]
    signature = Signature(task="tabular", inputs=[entry], outputs=outputs, classes=["a", "b"])
    base.write(folder / "mlstack/signature.json", signature)
    return folder


def replayed(folder: Path, work: Path) -> object:
    steps = ask.replay(folder, work)
    try:
        while True:
            next(steps)
    except StopIteration as end:
        return end.value


def test_a_plain_graph_is_let_through_and_replayed(tmp_path: Path) -> None:
    folder = package(plain(), tmp_path)

    check_graph(folder / "model.onnx")
    answer = replayed(folder, tmp_path)

    assert answer.examples == 1
    assert answer.differing == []


def test_a_graph_that_gives_more_probabilities_than_classes_is_refused(tmp_path: Path) -> None:
    graph = plain()
    graph.graph.node[2].output[0] = "two"
    wanted = numpy_helper.from_array(np.array([True, True, True, False]), "wanted")
    graph.graph.initializer.append(wanted)  # how many they are shows only when it runs
    graph.graph.node.append(helper.make_node("Concat", ["two", "two"], ["four"], axis=1))
    compress = helper.make_node("Compress", ["four", "wanted"], ["probabilities"], axis=1)
    graph.graph.node.append(compress)

    with pytest.raises(DataError, match=r"shape \[1, 3\] instead of \[1, 2\]"):
        replayed(package(graph, tmp_path), tmp_path)


def test_weights_in_other_files_are_refused_wherever_they_hide(tmp_path: Path) -> None:
    outside = helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0])
    outside.ClearField("float_data")
    outside.data_location = TensorProto.EXTERNAL
    entry = outside.external_data.add()
    entry.key, entry.value = "location", "../../secret"
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["y"], value=outside)],
        "inner",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    flag = numpy_helper.from_array(np.array(True), "flag")
    nested = helper.make_node("If", ["flag"], ["logits"], then_branch=inner, else_branch=inner)
    graphs = [model([], (outside,)), model([nested], (flag,))]

    for graph in graphs:
        with pytest.raises(DataError, match="in other files"):
            check_graph(saved(graph, tmp_path))


def test_operators_of_a_foreign_domain_are_refused(tmp_path: Path) -> None:
    node = helper.make_node("Shell", ["input"], ["logits"], domain="com.evil")

    with pytest.raises(DataError, match=r"com\.evil"):
        check_graph(saved(model([node]), tmp_path))


def calling(*names: str) -> onnx.ModelProto:
    """The plain graph, its logits through F0; each function calls another one."""
    graph = plain()
    graph.graph.node[1].output[0] = "before"
    graph.graph.node.append(helper.make_node("F0", ["before"], ["logits"], domain="f"))
    opset = [helper.make_opsetid("", 20), helper.make_opsetid("f", 1)]
    for number, name in enumerate(names):
        body = [helper.make_node(name, ["a"], ["c"], domain="f" if name[0] == "F" else "")]
        graph.functions.append(helper.make_function("f", f"F{number}", ["a"], ["c"], body, opset))
    graph.opset_import.append(helper.make_opsetid("f", 1))
    return graph


def test_functions_that_call_others_are_let_through(tmp_path: Path) -> None:
    check_graph(saved(calling("F1", "Relu"), tmp_path))


def test_functions_that_call_each_other_in_a_circle_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unfolds to more than"):
        check_graph(saved(calling("F1", "F0"), tmp_path))


def test_any_cut_of_a_graph_is_refused_or_harmless(tmp_path: Path) -> None:
    whole = plain().SerializeToString()
    path = tmp_path / "model.onnx"

    refused = 0
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        try:
            check_graph(path)
        except DataError:
            refused += 1

    assert refused >= 0.9 * len(whole)


def test_random_bytes_never_raise_anything_but_a_data_error(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    source = np.random.default_rng(0)

    for length in range(1, 300):
        path.write_bytes(source.bytes(length))
        with pytest.raises(DataError):
            check_graph(path)


def test_a_small_graph_that_asks_for_all_memory_is_refused(tmp_path: Path) -> None:
    shape = numpy_helper.from_array(np.array([1 << 18, 1 << 17], np.int64), "shape")
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["big"]),
        helper.make_node("ReduceSum", ["big"], ["logits"], keepdims=0),
        helper.make_node("Identity", ["logits"], ["probabilities"]),
    ]
    folder = package(model(nodes, (shape,)), tmp_path)

    with pytest.raises(GateError):
        replayed(folder, tmp_path)


def test_a_graph_that_never_ends_is_ended(tmp_path: Path) -> None:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Identity", ["state"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    times = numpy_helper.from_array(np.array(1 << 60, np.int64), "times")
    go = numpy_helper.from_array(np.array(True), "go_on")
    nodes = [
        helper.make_node("Cast", ["input"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Loop", ["times", "go_on", "x"], ["logits"], body=body),
        helper.make_node("Identity", ["logits"], ["probabilities"]),
    ]
    folder = package(model(nodes, (times, go)), tmp_path)
    request = tmp_path / "replay.json"
    base.write(request, ReplayRequest(package=str(folder), work=str(tmp_path), limit_s=2))

    worker = "mlstack.export.worker.replay"
    with pytest.raises(StepError, match="SIGALRM") as caught:
        list(run_worker(worker, [str(request)], ask.SAID.decode, tmp_path / "log"))

    assert not hasattr(caught.value, "__notes__")  # it died: a red gate, not a bug


def test_a_bug_while_replaying_names_no_log_that_is_gone_afterwards(tmp_path: Path) -> None:
    folder = package(plain(), tmp_path)
    (folder / "model.onnx").unlink()  # verify never comes so far

    with pytest.raises(StepError, match="FileNotFoundError") as caught:
        replayed(folder, tmp_path)

    assert caught.value.hint == "type it again with --debug"
    assert "Traceback" in caught.value.__notes__[0]
