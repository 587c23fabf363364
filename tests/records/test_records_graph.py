"""`records.graph` against the onnx library, and on files that are no graph."""

import time
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from mlstack.errors import DataError
from mlstack.records import graph


def make_graph(path: Path, facts: dict[str, str]) -> Path:
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])
    node = helper.make_node("Identity", ["x"], ["y"])
    exit_ = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    model = helper.make_model(helper.make_graph([node], "one", [entry], [exit_]))
    model.producer_name, model.model_version = "test", 1 << 40
    for key, value in facts.items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, path)
    return path


def varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def test_it_reads_what_onnx_wrote(tmp_path: Path) -> None:
    facts = {"mlstack.run": "r1", "é": "日本\n" * 500, "empty": ""}

    assert graph.metadata(make_graph(tmp_path / "m.onnx", facts)) == facts
    assert graph.metadata(make_graph(tmp_path / "bare.onnx", {})) == {}


def test_the_weights_are_sought_over(tmp_path: Path) -> None:
    small = make_graph(tmp_path / "small.onnx", {"mlstack.run": "r1"}).read_bytes()
    path, hole = tmp_path / "large.onnx", 4 << 30
    with path.open("wb") as stream:
        stream.write(b"\x3a" + varint(hole))  # field 7, the graph
        stream.seek(hole, 1)
        stream.write(small)

    before = time.process_time()
    found = graph.metadata(path)

    assert found == {"mlstack.run": "r1"}
    assert time.process_time() - before < 0.05


def test_every_cut_is_noticed_or_leaves_whole_entries(tmp_path: Path) -> None:
    path = make_graph(tmp_path / "m.onnx", {"a": "1", "b": "2"})
    content = path.read_bytes()

    refused = 0
    for size in range(len(content)):
        path.write_bytes(content[:size])
        try:
            assert graph.metadata(path).items() <= {"a": "1", "b": "2"}.items()
        except DataError:
            refused += 1

    assert refused > len(content) / 2


@pytest.mark.parametrize(
    "content", [b"not a model at all", b"\x00\x01", b"\xff" * 40, b"PK\x03\x04"]
)
def test_what_is_no_graph_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.onnx").write_bytes(content)

    with pytest.raises(DataError, match="not a whole ONNX file"):
        graph.metadata(tmp_path / "x.onnx")


def test_an_entry_that_claims_gigabytes_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "x.onnx").open("wb") as stream:
        stream.write(b"\x72" + varint(1 << 30))
        stream.truncate(2 << 30)

    with pytest.raises(DataError):
        graph.metadata(tmp_path / "x.onnx")
