"""`GET /openapi.json`: every route that the server answers, with the model's own classes."""

from typing import Any

import orjson

from mlstack import __version__
from mlstack.inputs.preprocess import RowSpec
from mlstack.inputs.texts import TextSpec
from mlstack.records.package import Signature, Tensor
from mlstack.serve.worker import feedback
from mlstack.serve.worker.lookup import Lookup
from mlstack.serve.worker.model import Model
from mlstack.serve.worker.traffic import Traffic

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer"}
IMAGE: Schema = {"type": "string", "contentEncoding": "base64"}
ID: Schema = {"type": "string", "pattern": f"^{feedback.ID.pattern}$"}
BYTES: Schema = {"type": "string", "format": "binary"}


def render(name: str, traffic: Traffic) -> bytes:
    """Write the description of the server as it is now."""
    signature = traffic.live.model.signature if traffic.live else None
    classes = signature.classes if signature else []
    document: Schema = {
        "openapi": "3.1.0",
        "info": {
            "title": f"{name}, served by mlstack",
            "version": __version__,
            "description": "Predictions of one model, and the Open Inference Protocol V2.",
        },
        "paths": {**_simple(classes), **_v2(name, traffic)},
        "components": {"schemas": _schemas(classes, signature)},
    }
    spec = traffic.live.model.spec if traffic.live else None
    if traffic.live and isinstance(spec, RowSpec):
        _take_rows(document, traffic.live.model, spec)
    return orjson.dumps(document)


def _take_rows(document: Schema, model: Model, spec: RowSpec) -> None:
    """Say that `/predict` takes rows of a table, and what a row holds."""
    columns = _columns(spec)
    schemas = document["components"]["schemas"]
    schemas["Row"] = _object(columns, spec.fields)
    row_kinds = [_ref("Row")]
    if model.lookup is not None and model.signature.preprocess is not None:
        schemas["KeyedRow"] = _keyed(columns, model.lookup, model.signature.preprocess["features"])
        row_kinds.append(_ref("KeyedRow"))
    rows = _object({"rows": {"type": "array", "items": {"anyOf": row_kinds}}}, ["rows"])
    schemas["PredictRequest"] = {"anyOf": [*row_kinds, rows, _object({"inputs": {}}, ["inputs"])]}
    predict = document["paths"]["/predict"]["post"]
    predict["summary"] = "Predict one row, several, or nested lists"
    predict["requestBody"]["content"] = _json(_ref("PredictRequest"))


def _columns(spec: RowSpec) -> Schema:
    if isinstance(spec, TextSpec):
        return {spec.column: {"type": ["string", "null"]}}
    columns: Schema = {name: {"type": ["number", "null"]} for name in spec.numbers}
    for name, values in spec.categories.items():
        kinds = ["string", "null"] if name in spec.texts else ["string", "boolean", "null"]
        columns[name] = {"type": kinds, "examples": values[:10]}
    return columns


def _keyed(columns: Schema, lookup: Lookup, settings: dict[str, Any]) -> Schema:
    """Describe a row whose features the server looks up: by its key, as of its time or of now."""
    own = {name: kind for name, kind in columns.items() if name not in lookup.columns}
    moment: Schema = {"type": "string", "format": "date-time"}
    asked = {settings["key"]: {"type": ["string", "integer"]}, settings["time"]: moment}
    return _object(asked | own, [settings["key"], *own])


def _simple(classes: list[str]) -> Schema:
    predict_body = {
        "application/octet-stream": {"schema": BYTES},
        "image/*": {"schema": BYTES},
        "application/json": {"schema": _ref("PredictRequest")},
        "multipart/form-data": {"schema": _object({"file": BYTES}, ["file"])},
    }
    answers = {"oneOf": [_ref("Prediction"), _ref("Predictions")]}
    return {
        "/": {"get": _operation("A page to try the model", {"text/html": {"schema": TEXT}})},
        "/predict": {
            "post": {
                **_operation("Predict one image, several, or nested lists", _json(answers)),
                "parameters": [
                    _header("x-request-id", "Your own id; kept in the request log."),
                    _header("x-session-id", "Equal sessions get the same version in a canary."),
                ],
                "requestBody": {"required": True, "content": predict_body},
            }
        },
        "/feedback": {
            "post": {
                **_operation("Say what was true of an earlier prediction", _json(_ref("Feedback"))),
                "requestBody": {"required": True, "content": _json(_ref("Feedback"))},
            }
        },
        "/health/live": {"get": _operation("The process runs", _json({"type": "object"}))},
        "/health/ready": {"get": _ready()},
        "/metrics": {"get": _operation("Prometheus metrics", {"text/plain": {"schema": TEXT}})},
        "/traffic": {"get": _operation("Canary and shadow", _json({"type": "object"}))},
        "/openapi.json": {"get": _operation("This document", _json({"type": "object"}))},
    }


def _v2(name: str, traffic: Traffic) -> Schema:
    paths: Schema = {
        "/v2": {"get": _operation("Server metadata", _json({"type": "object"}))},
        "/v2/health/live": {"get": _operation("The process runs", _json({"type": "object"}))},
        "/v2/health/ready": {"get": _ready()},
    }
    model = {"name": "name", "in": "path", "required": True, "schema": {"const": name}}
    loaded = [str(one.model.number) for one in traffic.loaded()]
    number = {
        "name": "version",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": "^[0-9]+$", "examples": loaded},
    }
    listed = {"type": "array", "items": {"type": "object"}}
    paths["/v2/repository/index"] = {"post": _operation("List the packages", _json(listed))}
    for verb in ("load", "unload"):
        done = _operation(f"{verb.capitalize()} what is live", _json({"type": "object"}))
        paths[f"/v2/repository/models/{{name}}/{verb}"] = {"post": done, "parameters": [model]}
    infer_body = {
        "application/json": {"schema": _ref("InferRequest")},
        "application/octet-stream": {"schema": BYTES},
    }
    for base, parameters in (
        ("/v2/models/{name}", [model]),
        ("/v2/models/{name}/versions/{version}", [model, number]),
    ):
        with_path = {"parameters": parameters}
        paths[base] = {"get": _operation("Model metadata", _json({"type": "object"})), **with_path}
        paths[f"{base}/ready"] = {"get": _ready(), **with_path}
        length = _header("Inference-Header-Content-Length", "Bytes of JSON before binary tensors.")
        length["schema"] = {"type": "integer", "minimum": 0}
        paths[f"{base}/infer"] = {
            "post": {
                **_operation("Infer", _json(_ref("InferResponse"))),
                "parameters": [length],
                "requestBody": {"required": True, "content": infer_body},
            },
            **with_path,
        }
    return paths


def _schemas(classes: list[str], signature: Signature | None) -> Schema:
    label: Schema = {"type": "string", "enum": classes} if classes else TEXT
    shares = {"type": "object", "additionalProperties": NUMBER}
    prediction = {
        "prediction": label,
        "confidence": NUMBER,
        "probabilities": shares,
        "prediction_id": TEXT,
        "model": TEXT,
        "version": COUNT,
    }
    inputs = _tensors(signature.inputs if signature else [])
    inputs["minItems"] = len(signature.inputs) if signature else 0
    outputs = _tensors(signature.outputs if signature else [])
    wanted = {"type": "array", "items": _object({"name": outputs["items"]["properties"]["name"]})}
    return {
        "PredictRequest": {
            "oneOf": [
                _closed({"image": IMAGE}),
                _closed({"images": {"type": "array", "items": IMAGE, "minItems": 1}}),
                _closed({"inputs": {}}),
            ]
        },
        "Prediction": _object(prediction, ["prediction_id"]),
        "Predictions": _object(
            {"predictions": {"type": "array"}, "model": TEXT, "version": COUNT}, ["predictions"]
        ),
        "Feedback": _closed({"prediction_id": ID, "label": label}),
        "InferRequest": _object({"id": TEXT, "inputs": inputs, "outputs": wanted}, ["inputs"]),
        "InferResponse": _object(
            {"model_name": TEXT, "model_version": TEXT, "id": TEXT, "outputs": outputs}, ["outputs"]
        ),
        "Error": _object({"error": TEXT, "field": TEXT}, ["error"]),
    }


def _tensors(described: list[Tensor]) -> Schema:
    """Describe the tensors of one side of a model in V2."""
    names: Schema = {"enum": [one.name for one in described]} if described else TEXT
    datatypes: Schema = {"enum": sorted({one.datatype for one in described})} if described else TEXT
    tensor = {
        "name": names,
        "shape": {"type": "array", "items": COUNT},
        "datatype": datatypes,
        "parameters": {"type": "object"},
        "data": {"type": "array"},
    }
    return {
        "type": "array",
        "items": _object(tensor, ["name", "shape", "datatype"]),
    }


def _operation(summary: str, content: Schema) -> Schema:
    refused = {
        "description": "Refused; `field` names what is wrong.",
        "content": _json(_ref("Error")),
    }
    return {
        "summary": summary,
        "responses": {"200": {"description": "Done", "content": content}, "4XX": refused},
    }


def _ready() -> Schema:
    operation = _operation("Requests are answered", _json({"type": "object"}))
    operation["responses"]["503"] = {"description": "Loading or stopping"}
    return operation


def _header(name: str, text: str) -> Schema:
    return {"name": name, "in": "header", "required": False, "description": text, "schema": TEXT}


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: Schema, required: list[str] | None = None) -> Schema:
    required = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": required}


def _closed(properties: Schema) -> Schema:
    """Describe an object that must have these properties and no other."""
    return {**_object(properties), "additionalProperties": False}
