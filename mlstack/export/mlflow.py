"""`MLmodel`: what MLflow reads of a package, written beside it without MLflow."""

import json
from typing import Any

from mlstack.records.package import Tensor

TYPES = {
    "UINT8": "uint8",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "FP32": "float32",
    "FP16": "float16",
    "BOOL": "bool",
}


def render(run: str, inputs: list[Tensor], outputs: list[Tensor], versions: dict[str, str]) -> str:
    """Give the file: MLflow's flavours `onnx` and `python_function`, and the signature.

    JSON is YAML, so it is written as JSON.

    Args:
        run: id of the run.
        inputs: of the graph.
        outputs: of the graph.
        versions: of the libraries that made it.
    """
    content: dict[str, Any] = {
        "artifact_path": "model",
        "flavors": {
            "onnx": {
                "onnx_version": versions.get("onnx", ""),
                "data": "model.onnx",
                "providers": ["CPUExecutionProvider"],
                "onnx_session_options": None,
                "code": None,
            },
            "python_function": {
                "loader_module": "mlflow.onnx",
                "python_version": versions.get("python", ""),
                "data": "model.onnx",
            },
        },
        "run_id": run,
        "signature": {
            "inputs": json.dumps([_tensor(t) for t in inputs]),
            "outputs": json.dumps([_tensor(t) for t in outputs]),
        },
    }
    return json.dumps(content, indent=2) + "\n"


def _tensor(tensor: Tensor) -> dict[str, Any]:
    kind = {"dtype": TYPES[tensor.datatype], "shape": tensor.shape}
    return {"name": tensor.name, "type": "tensor", "tensor-spec": kind}
