"""The binary tensors of V2: what was written is read; whatever else is a refusal, never a crash."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mlstack.records.package import Signature, Tensor
from mlstack.serve.worker import protocol
from mlstack.serve.worker.answers import Refused
from mlstack.serve.worker.tensors import DTYPES

NUMERIC = [name for name in DTYPES if name != "BYTES"]
relaxed = settings(max_examples=200, deadline=None, derandomize=True)


def signature(datatype: str, rank: int) -> Signature:
    tensor = Tensor(name="x", datatype=datatype, shape=[-1] * rank)
    return Signature(task="t", inputs=[tensor], outputs=[tensor], classes=[])


def written(array: np.ndarray, datatype: str, content: bytes, *, pad: int = 0) -> tuple[bytes, int]:
    tensor = {"name": "x", "shape": list(array.shape), "datatype": datatype}
    tensor["parameters"] = {"binary_data_size": len(content)}
    head = json.dumps({"inputs": [tensor]}).encode() + b" " * pad
    return head + content, len(head)


def read(body: bytes, length: int | bytes, given: Signature) -> protocol.Infer:
    header = length if isinstance(length, bytes) else b"%d" % length
    return protocol.check(*protocol.parse(body, header), given)


@st.composite
def tensors(draw: st.DrawFn) -> tuple[str, np.ndarray]:
    datatype = draw(st.sampled_from(NUMERIC))
    shape = draw(arrays.array_shapes(min_dims=1, max_dims=4, max_side=5))
    return datatype, draw(arrays.arrays(DTYPES[datatype], shape))


@relaxed
@given(tensor=tensors(), pad=st.integers(0, 8))
def test_every_datatype_comes_back_bit_by_bit(tensor: tuple[str, np.ndarray], pad: int) -> None:
    datatype, array = tensor
    body, length = written(array, datatype, array.tobytes(), pad=pad)

    infer = read(body, length, signature(datatype, array.ndim))
    infer.wanted = [(0, True)]
    answer = protocol.respond(infer, signature(datatype, array.ndim).outputs, infer.arrays, {})

    (got,) = infer.arrays
    assert got.dtype == DTYPES[datatype]
    assert got.flags.aligned
    assert got.tobytes() == array.tobytes()
    head = int(dict(answer.headers)[protocol.HEADER_LENGTH])
    assert answer.body[head:] == array.tobytes()
    assert json.loads(answer.body[:head])["outputs"][0]["shape"] == list(array.shape)


@relaxed
@given(texts=st.lists(st.text(max_size=20), min_size=1, max_size=6))
def test_strings_come_back(texts: list[str]) -> None:
    array = np.array(texts, dtype=object)
    content = b"".join(struct.pack("<I", len(t.encode())) + t.encode() for t in texts)
    body, length = written(array, "BYTES", content)

    infer = read(body, length, signature("BYTES", 1))
    infer.wanted = [(0, True)]
    answer = protocol.respond(infer, signature("BYTES", 1).outputs, infer.arrays, {})

    assert infer.arrays[0].tolist() == texts
    assert answer.body.endswith(content)


@relaxed
@given(
    tensor=tensors(),
    cut=st.integers(0, 300),
    change=st.tuples(st.integers(0, 300), st.integers(0, 255)),
    length=st.one_of(st.none(), st.integers(-3, 400), st.binary(max_size=6)),
    more=st.binary(max_size=9),
)
def test_damage_is_read_or_refused_and_nothing_else(
    tensor: tuple[str, np.ndarray],
    cut: int,
    change: tuple[int, int],
    length: int | bytes | None,
    more: bytes,
) -> None:
    datatype, array = tensor
    body, right = written(array, datatype, array.tobytes())
    damaged = bytearray(body[: len(body) - cut % 7] + more)
    place, value = change
    damaged[place % len(damaged)] = value

    try:
        infer = read(
            bytes(damaged), right if length is None else length, signature(datatype, array.ndim)
        )
    except Refused as refused:
        assert refused.status == 400
        assert refused.field
    else:
        assert infer.arrays[0].dtype == DTYPES[datatype]


@pytest.mark.parametrize(
    "content",
    [
        b"\x05\0\0\0abc",  # longer than what is left
        b"\xff\xff\xff\xff",
        b"\x03\0\0",  # no whole length
        b"\x01\0\0\0\xff",  # not UTF-8
        b"\x01\0\0\0a\x01\0\0\0b",  # two instead of one
        b"",
    ],
)
def test_strings_with_wrong_lengths_are_refused(content: bytes) -> None:
    body, length = written(np.array(["a"], dtype=object), "BYTES", content)

    with pytest.raises(Refused) as refused:
        read(body, length, signature("BYTES", 1))

    assert refused.value.field == "inputs[0].parameters.binary_data_size"


@pytest.mark.parametrize("datatype", [">f4", "FP32BE", "float32", "fp32", "BF16", ""])
def test_other_names_and_byte_orders_are_refused(datatype: str) -> None:
    body, length = written(np.zeros((1, 2), np.float32), datatype, bytes(8))

    with pytest.raises(Refused) as refused:
        read(body, length, signature("FP32", 2))

    assert refused.value.field == "inputs[0].datatype"


@pytest.mark.parametrize(
    "shape", [[2**31, 2**31], [2**62, 4], [1, 2**40], [10**30, 1], [0, 0], [1, -2], [1, 2**31]]
)
def test_huge_shapes_are_refused_before_anything_is_allocated(shape: list[int]) -> None:
    tensor = {"name": "x", "shape": shape, "datatype": "FP32"}
    tensor["parameters"] = {"binary_data_size": 8}
    head = json.dumps({"inputs": [tensor]}).encode()

    with pytest.raises(Refused) as refused:
        read(head + bytes(8), len(head), signature("FP32", 2))

    assert refused.value.status == 400


def test_no_parameters_that_are_no_object_break_it() -> None:
    for parameters in ([], 3, "x", None, {"binary_data_size": 1e9}, {"binary_data_size": "8"}):
        tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": parameters}
        head = json.dumps({"inputs": [tensor]}).encode()

        with pytest.raises(Refused):
            read(head + bytes(8), len(head), signature("FP32", 2))
