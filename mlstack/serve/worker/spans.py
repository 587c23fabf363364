"""Spans of OpenTelemetry, sent by OTLP over HTTP beside the event loop; only where asked for.

The library batches and sends; a queue that is full drops spans. Who does not sample its trace gets
none (the flag of `traceparent`). Variables of the OTEL_EXPORTER_OTLP family (headers, certificates)
hold, so that secrets stay out of the config.
"""

import logging
import time
from importlib import import_module
from typing import Any

from mlstack import __version__
from mlstack.errors import MachineError
from mlstack.serve.worker.answers import Answer
from mlstack.serve.worker.request import Request
from mlstack.serve.worker.said import log

PATH = "/v1/traces"
SAID = "opentelemetry.exporter"  # the logger that tells of a collector which does not answer


class Spans:
    """One span for each answered request, or nothing at all."""

    def __init__(self, endpoint: str | None, model: str) -> None:
        """Prepare to send to a collector, e.g. http://localhost:4318.

        Raises:
            MachineError: OpenTelemetry is not installed.
        """
        self.is_on = endpoint is not None
        if endpoint is None:
            return
        try:
            exporter = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
            resources = import_module("opentelemetry.sdk.resources")
            self._api: Any = import_module("opentelemetry.trace")
            self._sdk: Any = import_module("opentelemetry.sdk.trace")
            export = import_module("opentelemetry.sdk.trace.export")
        except ModuleNotFoundError as error:  # or a part: other libraries bring the SDK alone
            raise MachineError(
                f"`serve.otlp_endpoint` needs `{error.name}`, which is not installed",
                hint="pip install 'mlstack[otel]'",
            ) from error
        logging.getLogger(SAID).addHandler(_Told())
        self._resource = resources.Resource.create(
            {"service.name": model, "service.version": __version__}
        )
        place = endpoint.rstrip("/") + PATH
        self._processor = export.BatchSpanProcessor(exporter.OTLPSpanExporter(endpoint=place))

    def note(self, model: str, request: Request, answer: Answer, seconds: float) -> None:
        """Keep the span of an answer; nothing waits for the collector."""
        trace = request.trace
        if trace is None:
            return
        ended = time.time_ns()
        failed = self._api.StatusCode.ERROR if answer.status >= 500 else self._api.StatusCode.UNSET
        attributes: dict[str, str | int] = {
            "http.request.method": request.method,
            "http.route": request.route,
            "http.response.status_code": answer.status,
            "url.path": request.path,
            "mlstack.model": model,
            "mlstack.version": request.version,
            "mlstack.request_id": request.given_id,
        }
        if request.prediction_id:
            attributes["mlstack.prediction_id"] = request.prediction_id
        parent = self._context(trace.trace_id, trace.parent_id, trace.flags)
        self._processor.on_end(
            self._sdk.ReadableSpan(
                name=f"{request.method} {request.route}",
                context=self._context(trace.trace_id, trace.span_id, trace.flags),
                parent=parent if trace.parent_id else None,
                resource=self._resource,
                attributes=attributes,
                kind=self._api.SpanKind.SERVER,
                status=self._api.Status(failed),
                start_time=ended - int(seconds * 1e9),
                end_time=ended,
            )
        )

    def close(self) -> None:
        """Send what is left."""
        if self.is_on:
            self._processor.shutdown()

    def _context(self, trace: str, span: str, flags: str) -> Any:
        sampled = self._api.TraceFlags(int(flags, 16))
        return self._api.SpanContext(int(trace, 16), int(span or "0", 16), True, sampled)


class _Told(logging.Handler):
    """Says once what the library says about a collector, in the server's own form."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._is_said = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self._is_said:
            self._is_said = True
            first = record.getMessage().splitlines()[0][:300]
            log.warning("spans cannot be sent: %s", first, extra={"event": "spans"})
