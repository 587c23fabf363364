"""The fast way to read numbers accepts nothing that the slow way refuses, and reads the same."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlstack.records.package import Tensor
from mlstack.serve.worker import numbers, protocol
from mlstack.serve.worker.answers import Refused
from mlstack.serve.worker.tensors import DTYPES, check_shape, from_values

TYPES = ["FP32", "FP64", "UINT8", "INT64", "INT8"]
PAD = b" " * numbers.LARGE_BYTES  # what is small is left to the slow way

values = st.one_of(
    st.integers(-300, 300),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([255, 256, -129, 2**63, 1e39, 0.5, True, None, "1", [], [1], {"a": 1}]),
)
nested = st.one_of(
    st.lists(values, max_size=6),
    st.lists(st.lists(values, min_size=3, max_size=3), max_size=4),
    st.lists(st.lists(values, max_size=4), max_size=4),
)


def slowly(given: object, tensor: Tensor) -> np.ndarray | None:
    try:
        array = from_values(given, tensor.datatype, "inputs")
        if array.ndim == len(tensor.shape) - 1:
            array = array[None]
        check_shape(array, tensor, "inputs")
    except Refused:
        return None
    return array


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    given=nested,
    datatype=st.sampled_from(TYPES),
    shape=st.sampled_from([[-1, 3], [-1], [-1, 1, 3]]),
)
def test_predict_reads_the_same_or_leaves_it(
    given: object, datatype: str, shape: list[int]
) -> None:
    tensor = Tensor(name="x", datatype=datatype, shape=shape)
    body = json.dumps({"inputs": given}).encode() + PAD

    read = numbers.read_inputs(body, [tensor])

    if read is not None:
        expected = slowly(given, tensor)
        assert expected is not None, body.strip()
        assert read[0].dtype == DTYPES[datatype]
        np.testing.assert_array_equal(read[0], expected)


@pytest.mark.parametrize("datatype", TYPES)
@pytest.mark.parametrize("rows", [1, 2, 40])
def test_what_is_plainly_right_is_read_fast(datatype: str, rows: int) -> None:
    tensor = Tensor(name="x", datatype=datatype, shape=[-1, 2, 20])
    array = np.arange(rows * 40).reshape(rows, 2, 20) % 100
    body = json.dumps({"inputs": array.tolist()}).encode() + PAD
    single = json.dumps({"inputs": array[0].tolist()}).encode() + PAD

    read, read_single = (numbers.read_inputs(text, [tensor]) for text in (body, single))

    assert read is not None and read_single is not None
    assert (read[1], read_single[1]) == (False, True)
    np.testing.assert_array_equal(read[0], array.astype(DTYPES[datatype]))
    np.testing.assert_array_equal(read_single[0], array[:1].astype(DTYPES[datatype]))


@pytest.mark.parametrize(
    "text",
    [
        b'{"inputs":[1,2,[3]]}',
        b'{"inputs":[[1],2,3]}',
        b'{"inputs":[1,2,3],"more":1}',
        b'{"inputs":{"x":[1,2,3]}}',
        b'{"inputs":[1,2,NaN]}',
        b'{"inputs":[1,2,1e999]}',
        b'{"inputs":[1,2,3',
        b'{"inputs":3}',
        b"[1,2,3]",
        b'{"inputs":[1,2,"\xff"]}',
        b'{"inputs":[]}',
    ],
)
def test_what_is_not_plainly_right_is_left(text: bytes) -> None:
    tensor = Tensor(name="x", datatype="FP32", shape=[-1, 3])

    assert numbers.read_inputs(PAD + text, [tensor]) is None


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    data=nested | st.just([1, 2, 3]),
    shape=st.sampled_from([[1, 3], [3], [2, 3], [-1, 3], ["1", 3]]),
    datatype=st.sampled_from([*TYPES, "BYTES", "COMPLEX", 3]),
    more=st.sampled_from([{}, {"outputs": [{"name": "y"}]}, {"id": "a["}, {"id": 3}]),
)
def test_v2_reads_the_same_with_either_decoder(
    data: object, shape: object, datatype: object, more: dict[str, object]
) -> None:
    tensor = {"name": "x", "shape": shape, "datatype": datatype, "data": data}
    text = json.dumps({"inputs": [tensor], **more}).encode()

    fast, plain = outcome(text + PAD), outcome(text)
    if more == {"id": 3} and "id" in (fast, plain):  # of several mistakes each names its first
        assert isinstance(fast, str) and isinstance(plain, str)
    else:
        assert fast == plain


def outcome(text: bytes) -> object:
    """Give what a request is read as, or the field that it is refused for."""
    from mlstack.records.package import Signature

    given = Tensor(name="x", datatype="FP32", shape=[-1, 3])
    answered = Tensor(name="y", datatype="FP32", shape=[-1, 1])
    signature = Signature(task="t", inputs=[given], outputs=[answered], classes=[])
    try:
        parsed, extra = protocol.parse(text, None)
        infer = protocol.check(parsed, extra, signature)
    except Refused as refused:
        return refused.field
    return infer.arrays[0].tolist(), infer.id, infer.wanted


@pytest.mark.parametrize(
    ("datatype", "given", "expected"),
    [
        ("UINT64", [2**64 - 1, 1], [2**64 - 1, 1]),
        ("INT64", [2**53 + 1, 3.0], [2**53 + 1, 3]),
        ("INT64", [-(2**63), 0.0], [-(2**63), 0]),
        ("INT64", [2**63, 1], None),
        ("INT64", [float(2**63), 1], None),
        ("UINT64", [2**64, 1], None),
        ("UINT64", [1e300, 1], None),
    ],
)
def test_whole_numbers_beside_smaller_ones_and_fractions_are_not_rounded(
    datatype: str, given: list[float], expected: list[int] | None
) -> None:
    if expected is None:
        with pytest.raises(Refused):
            from_values([given], datatype, "inputs")
    else:
        assert from_values([given], datatype, "inputs").tolist() == [expected]


def test_large_numbers_keep_their_digits() -> None:
    tensor = Tensor(name="x", datatype="INT64", shape=[-1, 3])
    body = b'{"inputs":[[9007199254740993,-9223372036854775808,9223372036854775807]]}' + PAD

    read = numbers.read_inputs(body, [tensor])

    assert read is not None
    assert read[0].tolist() == [[2**53 + 1, -(2**63), 2**63 - 1]]
    assert not math.isnan(float(read[0][0, 0]))
