"""The application: routes, limits, and the way of one request through the model."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from mlstack.inputs.images import ImageSpec
from mlstack.inputs.preprocess import RowSpec
from mlstack.records import requests
from mlstack.records.server import ServerSpec
from mlstack.serve.worker import about, decode, feedback, openapi, page, protocol, repository, trial
from mlstack.serve.worker.access import Access
from mlstack.serve.worker.answers import JSON, Answer, Headers, Refused, busy, json_answer
from mlstack.serve.worker.arrow_stream import Raw
from mlstack.serve.worker.batcher import Job
from mlstack.serve.worker.columns import Entry, row_id
from mlstack.serve.worker.compare import Sample
from mlstack.serve.worker.fast_path import Books, FastPath
from mlstack.serve.worker.feedback import Feedback
from mlstack.serve.worker.log import RequestLog
from mlstack.serve.worker.metrics import Metrics
from mlstack.serve.worker.model import Model
from mlstack.serve.worker.predicted import predicted
from mlstack.serve.worker.repository import Repository
from mlstack.serve.worker.request import Request, new_id
from mlstack.serve.worker.said import AccessLog, log
from mlstack.serve.worker.spans import Spans
from mlstack.serve.worker.traffic import Deployed, Traffic
from mlstack.serve.worker.trial import Trial

Handler = Callable[[Request], Awaitable[Answer]]

INLINE_IMAGE_BYTES = 32 << 10  # larger images are decoded beside the event loop
COPIED_BYTES = 1 << 10  # rows up to this size are copied for the log, larger ones held on to
LOGGED = frozenset({"predict", "infer"})


class App:
    """The server's behaviour; `connection` does the HTTP."""

    def __init__(self, spec: ServerSpec, log: RequestLog, late: Feedback) -> None:
        self._spec = spec
        self._log = log
        self._late = late
        self.access = Access(spec.access)
        self.access_log = AccessLog(spec.access_log)
        self.spans = Spans(spec.otlp_endpoint, spec.model)
        self.metrics = Metrics(spec.model)
        self.traffic = Traffic(name=spec.model)
        self.trial: Trial | None = None  # of the canary
        books = Books(self.metrics, log, self.access_log)
        self.fast_path = FastPath(self._answering_all, self.access, books, spec.log)
        self.repository: Repository
        self.is_stopping = False  # each connection is closed after its next answer
        self.is_closed = False  # nothing more is answered
        self._decoders = ThreadPoolExecutor(os.cpu_count() or 1, "decode")
        self._fixed: dict[str, tuple[str, str, Handler]] = {
            "/": ("page", "GET", self._page),
            "/predict": ("predict", "POST", self._predict),
            "/feedback": ("feedback", "POST", self._feedback),
            "/health/live": ("health", "GET", self._alive),
            "/health/ready": ("health", "GET", self._ready),
            "/metrics": ("metrics", "GET", self._metrics),
            "/openapi.json": ("openapi", "GET", self._openapi),
            "/traffic": ("traffic", "GET", self._traffic),
            "/v2": ("v2", "GET", self._server_metadata),
            "/v2/health/live": ("health", "GET", self._alive),
            "/v2/repository/index": ("repository", "POST", self._index),
            "/v2/health/ready": ("health", "GET", self._ready),
        }

    @property
    def max_body_bytes(self) -> int:
        """Tell how large a body may be."""
        return self._spec.max_body_bytes

    async def answer(self, request: Request) -> Answer:
        """Answer one request, whatever happens."""
        request.begin(starts_trace=self.spans.is_on)
        try:
            answer = await self._answer(request)
        except Refused as refused:
            answer = self._refuse(request, refused)
        except asyncio.CancelledError:
            answer = self._refuse(request, Refused(499, "the client hung up"))
        except Exception as error:  # the last resort of the process: say it, answer, go on
            log.exception("%s in the server", type(error).__name__)
            answer = self._refuse(request, Refused(500, f"{type(error).__name__} in the server"))
        self._finish(request, answer)
        return answer

    def _finish(self, request: Request, answer: Answer) -> None:
        """Count and note an answer, and give it the headers that every answer has."""
        seconds = request.seconds()
        self.metrics.count(request.version, request.route, answer.status, seconds)
        answer.headers += self.access.headers(request)
        answer.headers += request.names()
        if self.access_log.is_on:
            self.access_log.note(self._spec.model, request, answer, seconds)
        if self.spans.is_on:
            self.spans.note(self._spec.model, request, answer, seconds)

    def _answering_all(self) -> Deployed | None:
        """Give the model that answers all alike; None while each request is looked at by itself."""
        is_particular = (
            self.is_closed
            or self._has_others
            or self.traffic.canary is not None
            or self.access.marks_answers
            or self.spans.is_on
        )
        return None if is_particular else self.traffic.live

    def is_busy(self) -> bool:
        """Tell whether rows wait for the live model."""
        live = self.traffic.live
        return live is not None and live.batcher.queued_rows > 0

    def paths(self) -> list[tuple[str, str]]:
        """List (path, method) of everything that is answered, as openapi.json must."""
        fixed = [(path, method) for path, (_, method, _) in self._fixed.items()]
        return fixed + [(path, method) for path, method in MODEL_PATHS]

    async def _answer(self, request: Request) -> Answer:
        if request.refused is not None:
            raise request.refused
        if (permission := self.access.admit(request)) is not None:
            return permission
        route, method, handler = self._fixed.get(request.path) or self._model_route(request)
        request.route = route
        if request.method != method and (request.method, method) != ("HEAD", "GET"):
            allowed: Headers = [(b"allow", method.encode())]
            raise Refused(405, f"`{request.path}` takes {method}", field="method", headers=allowed)
        return await handler(request)

    def _model_route(self, request: Request) -> tuple[str, str, Handler]:
        """Route /v2/models/NAME[/versions/N][/ready|/infer]."""
        _, *parts = request.path.split("/")
        if request.path.startswith(repository.PREFIX):
            return "repository", "POST", self._change
        if len(parts) < 3 or parts[:2] != ["v2", "models"]:
            raise Refused(
                404, f"there is no `{request.path[:200]}`; see /openapi.json", field="path"
            )
        rest = parts[5:] if parts[3:4] == ["versions"] and len(parts) > 4 else parts[3:]
        match rest:
            case []:
                return "v2", "GET", self._model_metadata
            case ["ready"]:
                return "health", "GET", self._model_ready
            case ["infer"]:
                return "infer", "POST", self._infer
        raise Refused(404, f"there is no `{request.path[:200]}`; see /openapi.json", field="path")

    def _named(self, request: Request) -> tuple[Deployed, bool]:
        """Find the model that the path names, and whether it names a version."""
        parts = request.path.split("/")
        is_exact = len(parts) > 5 and parts[4] == "versions"
        return self.traffic.version(parts[3], parts[5] if is_exact else ""), is_exact

    # What a prediction goes through

    async def _predict(self, request: Request) -> Answer:
        self._check_open()
        body = await request.body(self._spec.max_body_bytes)
        request.prediction_id = new_id()
        request_id = request.request_id()
        kind = request.headers.get(b"content-type", b"")

        async def by(deployed: Deployed) -> Answer:
            return await self._predicted(request, request_id, (body, kind), deployed)

        return await self._routed(request.sticky_key(), by)

    async def _predicted(
        self, request: Request, request_id: str, sent: tuple[bytes, bytes], deployed: Deployed
    ) -> Answer:
        model = deployed.model
        request.version = model.number
        deployed.batcher.admit(1, request.timeout_s())  # before anything is parsed
        asked = decode.parse(*sent, model)
        arrays = asked.arrays or [await self._decoded(asked, model)]
        entry = self._entry(request, request_id)
        job, outputs = await self._run(request, deployed, arrays)
        if self._has_others:
            self._mirror(
                deployed,
                Sample(
                    request.prediction_id,
                    model,
                    arrays,
                    outputs,
                    lambda other: decode.arrays(*sent, other),
                    len(sent[0]),
                ),
            )
        self._fill(entry, model, job, outputs)
        entry.inputs = asked.contents or _rows_as_bytes(arrays[0])
        self._describe(entry, model, arrays[0], asked.described)
        self._record(request, entry, model)
        said = _predictions(model, entry, outputs)
        common = {"model": model.name, "version": model.number}
        if asked.is_single:
            return json_answer({**said[0], **common}, self._headers(request, request_id))
        return json_answer({"predictions": said, **common}, self._headers(request, request_id))

    async def _infer(self, request: Request) -> Answer:
        self._check_open()
        body = await request.body(self._spec.max_body_bytes)
        parsed, extra = protocol.parse(body, request.headers.get(protocol.HEADER_LENGTH))
        request.prediction_id = new_id()
        request_id = request.request_id() or parsed.id[:128]
        named, is_exact = self._named(request)

        async def by(deployed: Deployed) -> Answer:
            return await self._inferred(request, request_id, (parsed, extra), deployed)

        if not is_exact:
            return await self._routed(request.sticky_key(), by)
        return await by(named)

    async def _inferred(
        self,
        request: Request,
        request_id: str,
        sent: tuple[protocol.InferBody, memoryview],
        deployed: Deployed,
    ) -> Answer:
        model = deployed.model
        request.version = model.number
        deployed.batcher.admit(1, request.timeout_s())
        infer = protocol.check(*sent, model.signature)
        entry = self._entry(request, request_id)
        job, outputs = await self._run(request, deployed, infer.arrays)
        if self._has_others:
            self._mirror(
                deployed,
                Sample(
                    request.prediction_id,
                    model,
                    infer.arrays,
                    outputs,
                    lambda other: protocol.check(*sent, other.signature).arrays,
                    len(sent[1]),
                ),
            )
        self._fill(entry, model, job, outputs)
        entry.inputs = _rows_as_bytes(infer.arrays[0])
        self._describe(entry, model, infer.arrays[0], None)
        self._record(request, entry, model)
        said = {
            "model_name": model.name,
            "model_version": str(model.number),
            "id": infer.id or request.prediction_id,
            "parameters": {"prediction_id": request.prediction_id},
        }
        answer = protocol.respond(infer, model.signature.outputs, outputs, said)
        answer.headers += self._headers(request, request_id)
        return answer

    async def _routed(self, key: str, by: Callable[[Deployed], Awaitable[Answer]]) -> Answer:
        return await trial.route(self.traffic, self.trial, key, by)

    @property
    def _has_others(self) -> bool:
        """Tell whether a canary or a shadow is to be compared with what was answered."""
        return self.trial is not None or self.traffic.shadow is not None

    def _mirror(self, deployed: Deployed, sample: Sample) -> None:
        trial.mirror(self.traffic, self.trial, deployed, sample)

    def _check_open(self) -> None:
        if self.is_closed:
            raise busy(503, requests.DRAINING)

    async def _decoded(self, asked: decode.Asked, model: Model) -> np.ndarray:
        assert isinstance(model.spec, ImageSpec)  # decode.parse refuses images otherwise
        if sum(map(len, asked.contents)) <= INLINE_IMAGE_BYTES:
            return decode.decode_images(asked, model.spec)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._decoders, decode.decode_images, asked, model.spec)

    async def _run(
        self, request: Request, deployed: Deployed, arrays: list[np.ndarray]
    ) -> tuple[Job, list[np.ndarray]]:
        rows = len(arrays[0])
        most = self._spec.batching.max_queue
        if rows > most:
            raise Refused(
                413, f"{rows} rows; at most {most} (`serve.batching.max_queue`)", field="inputs"
            )
        job = deployed.batcher.submit(arrays, rows, request.is_gone, request.timeout_s())
        try:
            return job, await job.done
        except (asyncio.CancelledError, Refused):
            raise
        except Exception as error:
            model = deployed.model
            is_free = any(-1 in tensor.shape[1:] for tensor in model.signature.inputs)
            if is_free or model.spec is None:
                # sizes that the signature leaves free, and what the numbers of a tensor mean, are
                # checked by the graph alone
                problem = (str(error).splitlines() or [type(error).__name__])[0][:300]
                raise Refused(400, f"the model refuses it: {problem}", field="inputs") from error
            raise

    def _entry(self, request: Request, request_id: str) -> Entry:
        now = time.time_ns() // 1000
        return Entry(request.prediction_id, request_id, now, request.version, request.route, 200)

    def _fill(self, entry: Entry, model: Model, job: Job, outputs: list[np.ndarray]) -> None:
        entry.count = job.rows
        entry.batch = job.batch
        if isinstance(model.spec, ImageSpec):
            entry.pixels = job.arrays[0]
        if model.signature.classes:
            entry.probabilities = model.probabilities(outputs)
            entry.classes = model.signature.classes

    def _describe(
        self, entry: Entry, model: Model, array: np.ndarray, described: np.ndarray | None
    ) -> None:
        """Give the log a table's columns; a redacted one must not stand in the input either."""
        if not isinstance(model.spec, RowSpec):
            return
        columns = model.spec.columns
        values = model.spec.narrow(array) if described is None else described
        entry.columns = dict(zip(columns, values.T, strict=True))
        redacted = self._spec.log.redact
        if redacted and not set(columns + model.spec.fields).isdisjoint(redacted):
            entry.inputs = None

    def _record(self, request: Request, entry: Entry, model: Model) -> None:
        entry.latency_us = int(request.seconds() * 1e6)
        self._log.add(entry)
        if entry.probabilities is None:
            return
        predictions, classes = self.metrics.predictions, model.signature.classes
        for row in entry.probabilities.tolist():
            predictions[model.number, classes[row.index(max(row))]] += 1

    def _headers(self, request: Request, request_id: str) -> Headers:
        if request_id and request_id.isprintable() and request_id.isascii():
            request.given_id = request_id  # the `id` of a V2 request is one too
        return [
            (b"x-prediction-id", request.prediction_id.encode()),
            (b"x-model-version", str(request.version).encode()),
        ]

    def _refuse(self, request: Request, refused: Refused) -> Answer:
        if refused.status in (401, 403, 408, 413, 429, 431, 499, 503, 504):
            self.metrics.rejected[str(refused.status)] += 1
        if request.route in LOGGED and request.method == "POST":
            prediction_id = request.prediction_id or new_id()
            live = self.traffic.live.model.number if self.traffic.live else 0
            self._log.add(
                Entry(
                    prediction_id=prediction_id,
                    request_id=request.given_id,
                    ts_us=time.time_ns() // 1000,
                    version=request.version or live,
                    route=request.route,
                    status=refused.status,
                    error=refused.noted(self._spec.log),
                    latency_us=int(request.seconds() * 1e6),
                )
            )
        return refused.answer()

    # Everything else

    async def _page(self, request: Request) -> Answer:
        model = self.traffic.live.model if self.traffic.live else None
        return Answer(200, page.render(self._spec.model, model), list(page.HEADERS))

    async def _feedback(self, request: Request) -> Answer:
        body = await request.body(self._spec.max_body_bytes)
        classes = [c for d in self.traffic.loaded() for c in d.model.signature.classes]
        given = feedback.parse(body, classes)
        await self._late.add(given)
        return json_answer({"prediction_id": given.prediction_id, "label": given.label})

    async def _alive(self, request: Request) -> Answer:
        return json_answer({"live": True})

    async def _ready(self, request: Request) -> Answer:
        return about.ready(self.traffic, is_stopping=self.is_stopping)

    async def _metrics(self, request: Request) -> Answer:
        return about.figures(self.metrics, self.traffic, self._log, self.access_log)

    async def _traffic(self, request: Request) -> Answer:
        return json_answer(trial.describe(self.traffic, self.trial))

    async def _openapi(self, request: Request) -> Answer:
        return Answer(200, openapi.render(self._spec.model, self.traffic), [JSON])

    async def _server_metadata(self, request: Request) -> Answer:
        return about.server()

    async def _model_metadata(self, request: Request) -> Answer:
        return about.metadata(self._named(request)[0].model, self.traffic)

    async def _index(self, request: Request) -> Answer:
        body = await request.body(self._spec.max_body_bytes)
        return self.repository.index(body, self.traffic)

    async def _change(self, request: Request) -> Answer:
        return await self.repository.change(request.path, self._spec.model)

    async def _model_ready(self, request: Request) -> Answer:
        model = self._named(request)[0].model
        return about.model_ready(model, is_stopping=self.is_stopping)


_MODEL = "/v2/models/{name}"
_VERSION = "/v2/models/{name}/versions/{version}"
MODEL_PATHS = [
    (base + end, method)
    for base in (_MODEL, _VERSION)
    for end, method in (("", "GET"), ("/ready", "GET"), ("/infer", "POST"))
] + [(f"{repository.PREFIX}{{name}}/{verb}", "POST") for verb in ("load", "unload")]


def _rows_as_bytes(array: np.ndarray) -> Sequence[Raw] | None:
    """Give the rows for the log; large ones are copied by its thread, not here."""
    if array.dtype.kind == "O":
        return None
    if array.nbytes < COPIED_BYTES * len(array) or not array.flags.c_contiguous:
        return [row.tobytes() for row in array]
    return [memoryview(row).cast("B") for row in array]


def _predictions(model: Model, entry: Entry, outputs: list[np.ndarray]) -> list[dict[str, Any]]:
    ids = [row_id(entry.prediction_id, row, entry.count) for row in range(entry.count)]
    if entry.probabilities is None or not entry.classes:
        named = [
            {t.name: o[row].tolist() for t, o in zip(model.signature.outputs, outputs, strict=True)}
            for row in range(entry.count)
        ]
        return [{"outputs": n, "prediction_id": i} for n, i in zip(named, ids, strict=True)]
    rows = zip(entry.probabilities.tolist(), ids, strict=True)
    return [predicted(row, entry.classes, prediction_id) for row, prediction_id in rows]
