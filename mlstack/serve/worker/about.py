"""What a server says of itself and of its models: health, figures, metadata."""

from typing import Any

from mlstack import __version__
from mlstack.serve.worker.answers import Answer, json_answer
from mlstack.serve.worker.log import RequestLog
from mlstack.serve.worker.metrics import TYPE, Metrics
from mlstack.serve.worker.model import Model
from mlstack.serve.worker.said import AccessLog
from mlstack.serve.worker.traffic import Traffic

EXTENSIONS = ["binary_tensor_data", "model_repository"]


def ready(traffic: Traffic, *, is_stopping: bool) -> Answer:
    """Say whether requests are answered, by which packages and on what."""
    live, canary = traffic.live, traffic.canary
    body: dict[str, Any] = {"ready": live is not None and not is_stopping}
    if live is not None:
        body |= {
            "model": live.model.name,
            "version": live.model.number,
            "provider": live.model.runner.provider,
            "io_binding": live.model.runner.bound_rows,
            "canary": canary.model.number if canary else None,
            "canary_percent": traffic.canary_percent if canary else 0,
            "shadow": traffic.shadow.number if traffic.shadow else None,
            "shadow_percent": traffic.shadow_percent if traffic.shadow else 0,
            "mlstack": __version__,
        }
    answer = json_answer(body)
    answer.status = 200 if body["ready"] else 503
    return answer


def model_ready(model: Model, *, is_stopping: bool) -> Answer:
    """Say whether a model answers, as V2 asks for it."""
    answer = json_answer({"name": model.name, "ready": not is_stopping})
    answer.status = 503 if is_stopping else 200
    return answer


def figures(
    metrics: Metrics, traffic: Traffic, request_log: RequestLog, access_log: AccessLog
) -> Answer:
    """Give what Prometheus reads."""
    queued = sum(deployed.batcher.queued_rows for deployed in traffic.loaded())
    live = traffic.live.model.number if traffic.live else 0
    gauges = {
        "mlstack_queue_rows": ("Rows waiting for the model.", queued),
        "mlstack_live_version": ("Package that answers.", live),
        "mlstack_canary_percent": ("Share of the canary.", traffic.canary_percent),
        "mlstack_log_rows_total": ("Rows written to the request log.", request_log.written_rows),
        "mlstack_log_rows_lost_total": ("Rows the log could not keep.", request_log.lost_rows),
        "mlstack_access_log_lost_total": ("Lines that stderr did not take.", access_log.lost),
        "mlstack_start_time_seconds": ("When the server started.", metrics.started),
    }
    return Answer(200, metrics.render(gauges), [(b"content-type", TYPE.encode())])


def server() -> Answer:
    """Give V2's metadata of the server."""
    return json_answer({"name": "mlstack", "version": __version__, "extensions": EXTENSIONS})


def metadata(model: Model, traffic: Traffic) -> Answer:
    """Give V2's metadata of a model."""
    inputs, outputs = [
        [{"name": t.name, "datatype": t.datatype, "shape": t.shape} for t in side]
        for side in (model.signature.inputs, model.signature.outputs)
    ]
    return json_answer(
        {
            "name": model.name,
            "versions": [str(deployed.model.number) for deployed in traffic.loaded()],
            "platform": "onnxruntime_onnx",
            "inputs": inputs,
            "outputs": outputs,
        }
    )
