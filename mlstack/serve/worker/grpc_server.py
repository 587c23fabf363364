"""Open Inference Protocol V2 over gRPC: each call becomes a request as HTTP has it, and back.

So keys, limits, canary, metrics and log are those of HTTP. The messages are those of `tritonclient`
(NVIDIA), the server is that of `grpcio`; both come with `mlstack[grpc]`. Streams, statistics, model
configurations and shared memory are answered with UNIMPLEMENTED.
"""

import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import grpc
import orjson
from tritonclient.grpc import service_pb2 as messages

from mlstack.errors import MachineError, MlstackError
from mlstack.records.server import ServerSpec, TlsSpec
from mlstack.serve import certificate
from mlstack.serve.worker.answers import Answer
from mlstack.serve.worker.app import App
from mlstack.serve.worker.grpc_messages import Message, Question, infer_question, infer_response
from mlstack.serve.worker.repository import PREFIX
from mlstack.serve.worker.request import MAX_HEADER_BYTES, Request

CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    499: grpc.StatusCode.CANCELLED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
# Of the headers of an answer, those that are not about HTTP.
TRAILERS = ("retry-after", "x-prediction-id", "x-model-version", "x-request-id", "traceparent")
LONGEST_MS = 9_999_999  # that `X-Timeout-Ms` takes

SERVICE = "inference.GRPCInferenceService"

Context = Any  # grpc.aio.ServicerContext


class GrpcServer:
    """The second port of a server. `start` before READY is said, `stop` when it drains."""

    def __init__(self, spec: ServerSpec, app: App) -> None:
        """Take the port.

        Raises:
            MachineError: somebody else has it.
        """
        self._server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 0),  # else two servers would share a port without a word
                ("grpc.max_receive_message_length", spec.max_body_bytes + MAX_HEADER_BYTES),
                ("grpc.max_metadata_size", MAX_HEADER_BYTES),
            ]
        )
        self._server.add_generic_rpc_handlers((_Service(app).handler(),))
        try:
            self._listen(spec)
        except RuntimeError as error:
            raise MachineError(
                f"cannot listen on {spec.grpc_address} for gRPC",
                hint="choose another port with `serve.grpc_port`",
            ) from error

    def _listen(self, spec: ServerSpec) -> None:
        if spec.access.tls is None:
            self._server.add_insecure_port(spec.grpc_address)
            return
        pair = _Pair(spec.access.tls)
        credentials = grpc.dynamic_ssl_server_credentials(pair.read(), pair.renewed)
        self._server.add_secure_port(spec.grpc_address, credentials)

    async def start(self) -> None:
        """Answer from now on."""
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Take no more calls; end those that are still open when the time is over."""
        await self._server.stop(grace_s)


class _Pair:
    """Certificate and key; gRPC asks at each handshake, in a thread of its own, for newer ones."""

    def __init__(self, tls: TlsSpec) -> None:
        self._tls = tls
        self._stamp = certificate.stamp(tls)

    def read(self) -> Any:
        """Read them as they are now."""
        pair = (Path(self._tls.key).read_bytes(), Path(self._tls.cert).read_bytes())
        return grpc.ssl_server_certificate_configuration([pair])

    def renewed(self) -> Any:
        """Read them when they have changed; None where they are not fit, as `tls.Tls` says."""
        stamp = certificate.stamp(self._tls)
        if stamp in (None, self._stamp):
            return None
        self._stamp = stamp
        with contextlib.suppress(MlstackError, OSError):
            certificate.check(self._tls)
            return self.read()
        return None


class _Caller:
    """Who asks: a call, which is over when it was cancelled."""

    def __init__(self, context: Context) -> None:
        self.is_gone = False
        context.add_done_callback(self._end)

    def _end(self, _: Context) -> None:
        self.is_gone = True


class _Service:
    """What each method of the protocol asks the app, and how its answer is written."""

    def __init__(self, app: App) -> None:
        self._app = app

    def handler(self) -> Any:
        """Give what a gRPC server looks methods up in."""
        methods: dict[str, Callable[[Message, Context], Awaitable[Message]]] = {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._metadata,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._infer,
            "RepositoryIndex": self._index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
        }
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                name: grpc.unary_unary_rpc_method_handler(
                    method,
                    request_deserializer=getattr(messages, f"{name}Request").FromString,
                    response_serializer=getattr(messages, f"{name}Response").SerializeToString,
                )
                for name, method in methods.items()
            },
        )

    async def _live(self, asked: Message, context: Context) -> Message:
        await self._ask(context, Question("GET", "/v2/health/live"))
        return messages.ServerLiveResponse(live=True)

    async def _ready(self, asked: Message, context: Context) -> Message:
        question = Question("GET", "/v2/health/ready", no=frozenset({503}))
        answer = await self._ask(context, question)
        return messages.ServerReadyResponse(ready=answer.status == 200)

    async def _model_ready(self, asked: Message, context: Context) -> Message:
        path = f"{_path(asked.name, asked.version)}/ready"
        answer = await self._ask(context, Question("GET", path, no=frozenset({404, 503})))
        return messages.ModelReadyResponse(ready=answer.status == 200)

    async def _metadata(self, asked: Message, context: Context) -> Message:
        answer = await self._ask(context, Question("GET", "/v2"))
        return messages.ServerMetadataResponse(**orjson.loads(answer.body))

    async def _model_metadata(self, asked: Message, context: Context) -> Message:
        answer = await self._ask(context, Question("GET", _path(asked.name, asked.version)))
        known = messages.ModelMetadataResponse.DESCRIPTOR.fields_by_name
        said = orjson.loads(answer.body)
        return messages.ModelMetadataResponse(**{k: said[k] for k in said if k in known})

    async def _infer(self, asked: Message, context: Context) -> Message:
        path = f"{_path(asked.model_name, asked.model_version)}/infer"
        answer = await self._ask(context, infer_question(asked, path))
        return infer_response(answer)

    async def _index(self, asked: Message, context: Context) -> Message:
        body = orjson.dumps({"ready": asked.ready})
        answer = await self._ask(context, Question("POST", "/v2/repository/index", body))
        return messages.RepositoryIndexResponse(models=orjson.loads(answer.body))

    async def _load(self, asked: Message, context: Context) -> Message:
        await self._ask(context, Question("POST", f"{PREFIX}{asked.model_name}/load"))
        return messages.RepositoryModelLoadResponse()

    async def _unload(self, asked: Message, context: Context) -> Message:
        await self._ask(context, Question("POST", f"{PREFIX}{asked.model_name}/unload"))
        return messages.RepositoryModelUnloadResponse()

    async def _ask(self, context: Context, question: Question) -> Answer:
        """Ask the app; an answer that is no answer ends the call with a status."""
        request = Request(
            question.method,
            question.path,
            {**_headers(context), **question.headers},
            question.body,
            _Caller(context),
            refused=question.refused,
        )
        answer = await self._app.answer(request)
        trailers = tuple((n.decode(), v.decode("latin-1")) for n, v in answer.headers)
        context.set_trailing_metadata([t for t in trailers if t[0] in TRAILERS])
        if answer.status != 200 and answer.status not in question.no:
            await _abort(context, answer)
        return answer


async def _abort(context: Context, answer: Answer) -> NoReturn:
    said = orjson.loads(answer.body)
    place = f"{said['field']}: " if said.get("field") else ""
    await context.abort(CODES.get(answer.status, grpc.StatusCode.INTERNAL), place + said["error"])
    raise AssertionError("abort has raised")


def _headers(context: Context) -> dict[bytes, bytes]:
    """Give the metadata of a call as headers, and its deadline as `X-Timeout-Ms`."""
    found = {
        key.encode(): value.encode("latin-1", "replace")
        for key, value in context.invocation_metadata()
        if isinstance(value, str)
    }
    left_s = context.time_remaining()
    if left_s is not None and b"x-timeout-ms" not in found:
        found[b"x-timeout-ms"] = b"%d" % min(max(int(1000 * left_s), 1), LONGEST_MS)
    return found


def _path(name: str, version: str) -> str:
    """Give the path of a model, or of a version of it; a name cannot lead elsewhere."""
    parts = [quote(name, safe=""), *(["versions", quote(version, safe="")] if version else [])]
    return "/v2/models/" + "/".join(parts)
