"""Messages of V2 over gRPC -> what HTTP would ask, and its answers -> messages."""

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from tritonclient.grpc import service_pb2 as messages

from mlstack.serve.worker.answers import Answer, Refused, bad
from mlstack.serve.worker.protocol import HEADER_LENGTH, encode
from mlstack.serve.worker.tensors import DTYPES, from_values

# Where a message keeps values that do not come as raw bytes.
CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}

Message = Any  # protobuf makes the classes of `messages` when it is loaded


@dataclass(frozen=True)
class Question:
    """What is asked of the app, as HTTP would ask it."""

    method: str
    path: str
    body: bytes = b""
    headers: dict[bytes, bytes] = field(default_factory=dict)
    refused: Refused | None = None
    no: frozenset[int] = frozenset()  # statuses that mean `no`, and are no errors


def infer_question(asked: Message, path: str) -> Question:
    """Write a call of the model as JSON with the tensors behind it."""
    try:
        pieces = _pieces(asked)
    except Refused as refused:
        return Question("POST", path, refused=refused)
    inputs = [
        {
            "name": tensor.name,
            "shape": list(tensor.shape),
            "datatype": tensor.datatype,
            "parameters": {**_parameters(tensor), "binary_data_size": len(piece)},
        }
        for tensor, piece in zip(asked.inputs, pieces, strict=True)
    ]
    outputs = [
        {"name": output.name, "parameters": {**_parameters(output), "binary_data": True}}
        for output in asked.outputs
    ]
    head = orjson.dumps(
        {
            "id": asked.id,
            "inputs": inputs,
            "outputs": outputs,
            "parameters": {**_parameters(asked), "binary_data_output": True},
        }
    )
    length = {HEADER_LENGTH: b"%d" % len(head)}
    return Question("POST", path, b"".join([head, *pieces]), length)


def _pieces(asked: Message) -> list[bytes]:
    """Give the bytes of each input.

    Raises:
        Refused: 400, they come in two ways, or values do not fit their datatype.
    """
    raw = list(asked.raw_input_contents)
    if not raw:
        return [_encoded(tensor, f"inputs[{i}]") for i, tensor in enumerate(asked.inputs)]
    if len(raw) != len(asked.inputs):
        raise bad(f"{len(raw)} for {len(asked.inputs)} inputs", "raw_input_contents")
    if any(tensor.HasField("contents") for tensor in asked.inputs):
        raise bad("there is `contents`, too; send one of them", "raw_input_contents")
    return raw


def _encoded(tensor: Message, place: str) -> bytes:
    name = CONTENTS.get(tensor.datatype)
    if name is None:
        problem = f"`{tensor.datatype[:20]}` can only come as `raw_input_contents`"
        raise bad(problem, f"{place}.datatype")
    values = list(getattr(tensor.contents, name))
    if tensor.datatype == "BYTES":
        return b"".join(struct.pack("<I", len(value)) + value for value in values)
    if tensor.datatype in ("FP32", "FP64"):  # as protobuf has read them: NaN is one of them
        return np.array(values, DTYPES[tensor.datatype]).tobytes()
    return encode(from_values(values, tensor.datatype, f"{place}.contents"), tensor.datatype)


def _parameters(message: Message) -> dict[str, Any]:
    """Give the parameters of a message; each is one of several kinds."""
    return {
        key: getattr(value, value.WhichOneof("parameter_choice") or "bool_param")
        for key, value in message.parameters.items()
    }


def infer_response(answer: Answer) -> Message:
    """Read an answer in JSON with tensors behind it."""
    place = int(dict(answer.headers)[HEADER_LENGTH])
    said = orjson.loads(answer.body[:place])
    response = messages.ModelInferResponse(
        model_name=said["model_name"], model_version=said["model_version"], id=said["id"]
    )
    for key, value in said["parameters"].items():
        response.parameters[key].string_param = value
    for output in said["outputs"]:
        end = place + output["parameters"]["binary_data_size"]
        response.outputs.add(
            name=output["name"], datatype=output["datatype"], shape=output["shape"]
        )
        response.raw_output_contents.append(answer.body[place:end])
        place = end
    return response
