"""Open Inference Protocol V2 over HTTP: JSON, and tensors as raw bytes behind the JSON."""

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
import orjson

from mlstack.records.package import Signature, Tensor
from mlstack.serve.worker import numbers
from mlstack.serve.worker.answers import JSON, Answer, Headers, bad
from mlstack.serve.worker.tensors import DTYPES, check_shape, from_values

HEADER_LENGTH = b"inference-header-content-length"
MAX_SIZE = 1 << 31
MAX_KNOWN = 1 << 10  # bytes of JSON that are remembered


class InputTensor(msgspec.Struct, frozen=True):
    """One entry of `inputs`."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = msgspec.field(default_factory=dict)
    data: Any = None


class WantedOutput(msgspec.Struct, frozen=True):
    """One entry of `outputs`."""

    name: str
    parameters: dict[str, Any] = msgspec.field(default_factory=dict)


class InferBody(msgspec.Struct, frozen=True):
    """The JSON of a request."""

    inputs: list[InputTensor]
    id: str = ""
    parameters: dict[str, Any] = msgspec.field(default_factory=dict)
    outputs: list[WantedOutput] = msgspec.field(default_factory=list)


@dataclass(slots=True)
class Infer:
    """A request that has been read and checked."""

    id: str
    arrays: list[np.ndarray]
    rows: int
    wanted: list[tuple[int, bool]]  # index of the output, as bytes?


_body = msgspec.json.Decoder(InferBody)


def parse(body: bytes, header_length: bytes | None) -> tuple[InferBody, memoryview]:
    """Split a request body into its JSON and the bytes behind it.

    Raises:
        Refused: the header or the JSON is wrong.
    """
    size = len(body)
    if header_length is not None:
        text = header_length.decode("latin-1").strip()
        if not (text.isascii() and text.isdigit() and len(text) < 12 and int(text) <= size):
            raise bad(
                f"is `{text[:20]}`; the body has {size} bytes", "Inference-Header-Content-Length"
            )
        size = int(text)
    if header_length is not None and size <= MAX_KNOWN:
        return _known(body[:size]), memoryview(body)[size:]
    return _decoded(body[:size]), memoryview(body)[size:]


def _decoded(text: bytes) -> InferBody:
    try:
        if (read := numbers.read_infer(text)) is not None:
            return msgspec.convert(read, InferBody)
        return _body.decode(text)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).partition(" - at `$")
        raise bad(problem, place.rstrip("`").lstrip(".") or "body") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad(f"the body is not JSON: {error}", "body") from error


# A client that sends its tensors as bytes says the same JSON before each of them.
_known = lru_cache(maxsize=64)(_decoded)


def check(parsed: InferBody, extra: memoryview, signature: Signature) -> Infer:
    """Turn the request into the arrays that the model takes.

    Raises:
        Refused: 400 with the field that is wrong.
    """
    arrays = _arrays(parsed.inputs, extra, signature.inputs)
    rows = len(arrays[0])
    if any(len(array) != rows for array in arrays):
        raise bad("the inputs have different numbers of rows", "inputs")
    return Infer(parsed.id, arrays, rows, _wanted(parsed, signature.outputs))


def respond(
    infer: Infer, tensors: list[Tensor], outputs: list[np.ndarray], said: dict[str, Any]
) -> Answer:
    """Write the answer: `said` is its JSON without the outputs."""
    described: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for index, as_bytes in infer.wanted:
        tensor, array = tensors[index], outputs[index]
        entry: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(array.shape),
        }
        if as_bytes:
            content = encode(array, tensor.datatype)
            entry["parameters"] = {"binary_data_size": len(content)}
            tail.append(content)
        else:
            entry["data"] = _flat(array)
        described.append(entry)
    text = orjson.dumps({**said, "outputs": described}, option=orjson.OPT_SERIALIZE_NUMPY)
    if not tail:
        return Answer(200, text, [JSON])
    binary: Headers = [
        (b"content-type", b"application/octet-stream"),
        (HEADER_LENGTH, str(len(text)).encode()),
    ]
    return Answer(200, b"".join([text, *tail]), binary)


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _arrays(given: list[InputTensor], extra: memoryview, wanted: list[Tensor]) -> list[np.ndarray]:
    known = [tensor.name for tensor in wanted]
    found: dict[str, np.ndarray] = {}
    used = 0
    for index, tensor in enumerate(given):
        field = f"inputs[{index}]"
        if tensor.name not in known or tensor.name in found:
            takes = _listed(known)
            raise bad(
                f"`{tensor.name}` is unknown or twice; the model takes {takes}", f"{field}.name"
            )
        declared = wanted[known.index(tensor.name)]
        _check_declared(tensor, declared, field)
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            array = _from_data(tensor, field)
        else:
            array = _from_bytes(tensor, extra, used, field)
            used += size
        check_shape(array, declared, f"{field}.shape")
        found[tensor.name] = array
    if missing := [name for name in known if name not in found]:
        raise bad(f"the model takes {_listed(missing)} too", "inputs")
    if used != len(extra):
        raise bad(f"{len(extra) - used} bytes behind the JSON belong to no input", "body")
    return [found[name] for name in known]


def _check_declared(tensor: InputTensor, declared: Tensor, field: str) -> None:
    if tensor.datatype != declared.datatype:
        raise bad(
            f"is `{tensor.datatype}`; the model takes {declared.datatype}", f"{field}.datatype"
        )
    if len(tensor.shape) != len(declared.shape):
        raise bad(f"{tensor.shape[:8]} does not fit {declared.shape}", f"{field}.shape")
    if any(size < 0 or size > MAX_SIZE for size in tensor.shape):
        raise bad(f"{tensor.shape} holds an impossible size", f"{field}.shape")
    if (tensor.parameters.get("binary_data_size") is None) == (tensor.data is None):
        raise bad("needs either `data` or `parameters.binary_data_size`", f"{field}.data")


def _from_data(tensor: InputTensor, field: str) -> np.ndarray:
    given = tensor.data
    is_read = isinstance(given, np.ndarray)
    array = given if is_read else from_values(given, tensor.datatype, f"{field}.data")
    return _shaped(array, tensor.shape, f"{field}.data")


def _from_bytes(tensor: InputTensor, extra: memoryview, start: int, field: str) -> np.ndarray:
    size = tensor.parameters["binary_data_size"]
    place = f"{field}.parameters.binary_data_size"
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(extra) - start:
        raise bad(f"is {size!r}; {len(extra) - start} bytes are left behind the JSON", place)
    content = extra[start : start + size]
    if tensor.datatype == "BYTES":
        return _shaped(_read_strings(content, place), tensor.shape, place)
    dtype = DTYPES[tensor.datatype]
    if size % dtype.itemsize:
        raise bad(f"{size} bytes are no whole number of {tensor.datatype}", place)
    array = np.frombuffer(content, dtype)
    if not array.flags.aligned:  # behind JSON of odd length
        array = array.copy()
    return _shaped(array, tensor.shape, place)


def _shaped(array: np.ndarray, shape: list[int], field: str) -> np.ndarray:
    expected = 1
    for size in shape:
        expected *= size
    if array.size != expected:
        raise bad(f"holds {array.size} values; shape {shape} has {expected}", field)
    return array.reshape(shape)


def _wanted(parsed: InferBody, outputs: list[Tensor]) -> list[tuple[int, bool]]:
    every = parsed.parameters.get("binary_data_output", False) is True
    if not parsed.outputs:
        return [(index, every) for index in range(len(outputs))]
    known = [tensor.name for tensor in outputs]
    wanted = []
    for index, output in enumerate(parsed.outputs):
        if output.name not in known:
            raise bad(
                f"`{output.name}` is unknown; the model gives {known}", f"outputs[{index}].name"
            )
        if output.parameters.get("classification"):
            raise bad("is not supported", f"outputs[{index}].parameters.classification")
        wanted.append(
            (known.index(output.name), output.parameters.get("binary_data", every) is True)
        )
    return wanted


def _flat(array: np.ndarray) -> Any:
    """Give an output's values in the protocol's row-major order, as orjson can write them."""
    flat = np.ascontiguousarray(array.ravel())
    return flat if flat.dtype.kind in "biuf" and flat.dtype.itemsize > 2 else flat.tolist()


def encode(array: np.ndarray, datatype: str) -> bytes:
    """Give the bytes of a tensor, in row-major order; of strings, a length before each."""
    if datatype != "BYTES":
        return np.ascontiguousarray(array).astype(DTYPES[datatype], copy=False).tobytes()
    texts = [str(value).encode() for value in array.ravel()]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def _read_strings(content: memoryview, field: str) -> np.ndarray:
    texts: list[str] = []
    place = 0
    while place < len(content):
        head = bytes(content[place : place + 4])
        size = struct.unpack("<I", head)[0] if len(head) == 4 else len(content)
        place += 4 + size
        if place > len(content):
            raise bad("a string is longer than what is left", field)
        try:
            texts.append(bytes(content[place - size : place]).decode())
        except UnicodeDecodeError as error:
            raise bad("a string is not UTF-8", field) from error
    return np.array(texts, dtype=object)
