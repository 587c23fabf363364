"""The HTTP API of the labeling server; scripts may use it like the page does.

    GET  /api/project?annotator=A   name, id, classes with their keys, annotator, counts
    GET  /api/next?annotator=A&n=5  leases A the next items: {"items": [...], "counts": {...}};
                                    `&again=1` deals the ones that A skipped
    GET  /api/labeled?annotator=A   what A may look through: A's own answers and the labels that
                                    came with the data, `&label=NAME` of one class,
                                    `&from=0&n=50` a page: {"items": [...], "total", "counts"}
    GET  /api/items/PATH/image      the bytes of the file; a TIFF as PNG; `?small=1` a small one
    POST /api/label                 {"path", "label", "annotator", "client_id", "seconds"}
    POST /api/skip                  {"path", "annotator", "client_id", "seconds"}
    POST /api/undo                  {"annotator", "client_id", "path"}: takes back A's newest
                                    answer, or A's newest one to an item
    GET  /api/stats                 what `mlstack label stats --json` prints

An item is {"path", "image" (its URL), "label" (A's own, or null)}; counts are {"total", "labeled",
"remaining", "skipped", "mine", "classes": {name: labels}}. The three POST requests want
`content-type: application/json`; `client_id`, `seconds`, `n` and the `path` of an undo may be left
out. They answer
{"seq", "items", "counts"} (undo also "undone": {"path", "action", "label"}, null when there was
nothing to undo) once the event is on the disk; sent again with the same `client_id` they change
nothing. What is wrong is answered by 400 {"error": {"field", "problem", "hint"}}; 503 means that
the label could not be written and should be sent again.
"""

import asyncio
import hashlib
import math
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from mlstack.errors import DataError, MlstackError
from mlstack.label import quality
from mlstack.label.board import Board
from mlstack.label.session import IMPORTER, MAX_NAME, Session, is_person
from mlstack.label.store import Draft, Undo, Writer, Written, read_events
from mlstack.label.worker import pictures

KEPT = {"cache-control": "private, max-age=60"}
WEB = Path(__file__).parent.parent / "web"
MAX_BODY_BYTES = 65_536
MAX_ITEMS = 50
MAX_DIGITS = 9


class SkipPost(msgspec.Struct, forbid_unknown_fields=True):
    """The body of /api/skip."""

    path: str
    annotator: str
    client_id: str | None = None
    seconds: float | None = None
    n: int = 5


class LabelPost(msgspec.Struct, forbid_unknown_fields=True):
    """The body of /api/label."""

    path: str
    label: str
    annotator: str
    client_id: str | None = None
    seconds: float | None = None
    n: int = 5


class UndoPost(msgspec.Struct, forbid_unknown_fields=True):
    """The body of /api/undo."""

    annotator: str
    client_id: str | None = None
    path: str | None = None
    n: int = 5


Post = TypeVar("Post", SkipPost, LabelPost, UndoPost)


class ItemConvertor(PathConvertor):
    """A path in an address that may hold the end of a line, too."""

    regex = "(?s:.*)"


register_url_convertor("item", ItemConvertor())


class Wrong(Exception):
    """A request that cannot be meant; `field` is what is wrong with it."""

    def __init__(self, field: str, problem: str, hint: str = "", status: int = 400) -> None:
        super().__init__(problem)
        self.field = field
        self.problem = problem
        self.hint = hint
        self.status = status


@dataclass(frozen=True)
class Desk:
    """What the handlers work on."""

    session: Session
    board: Board
    writer: Writer

    async def project(self, request: Request) -> Response:
        """Answer what the page needs to draw itself."""
        annotator = _annotator(request.query_params.get("annotator", self.session.annotator))
        counts = self.board.progress(annotator)
        return _json(
            {
                "name": self.session.project,
                "id": hashlib.sha1(  # keeps what a browser stored for another project apart
                    self.session.source.encode(), usedforsecurity=False
                ).hexdigest()[:12],
                "annotator": self.session.annotator,
                "shared": self.session.shared,
                "classes": [
                    {"name": c.name, "keys": c.keys, "count": counts.classes.get(c.name, 0)}
                    for c in self.session.classes
                ],
                "counts": asdict(counts),
            }
        )

    async def next(self, request: Request) -> Response:
        """Lease items."""
        query = request.query_params
        annotator = _annotator(query.get("annotator", self.session.annotator))
        count = _count(query.get("n", "5"))
        paths = self.board.deal(annotator, count, again=query.get("again") == "1")
        return _json(self._hand_out(paths, annotator))

    async def labeled(self, request: Request) -> Response:
        """Give a page of what is labeled, to be looked through and corrected."""
        query = request.query_params
        annotator = _annotator(query.get("annotator", self.session.annotator))
        begin, count = _place(query.get("from", "0")), _count(query.get("n", str(MAX_ITEMS)))
        found = self.board.labeled(annotator, query.get("label"))
        items = [_item(path, label) for path, label in found[begin : begin + count]]
        counts = asdict(self.board.progress(annotator))
        return _json({"items": items, "total": len(found), "counts": counts})

    async def image(self, request: Request) -> Response:
        """Send a file; only listed paths exist, so no path leads outside the dataset."""
        path = request.path_params["path"]
        if path not in self.board:
            raise Wrong("path", f"there is no item `{path}`", status=404)
        file = Path(self.session.source) / path
        if not file.is_file():
            raise Wrong("path", f"the file `{path}` is gone", status=404)
        small = request.query_params.get("small") == "1"
        if not pictures.is_fit(file, small=small):
            try:
                drawn = await run_in_threadpool(pictures.draw, file, small=small)
                return Response(drawn, media_type="image/png", headers=KEPT)
            except DataError as error:  # damaged, or too large to be read: the browser may do more
                if not pictures.is_fit(file, small=False):
                    raise Wrong("path", f"`{path}` cannot be shown: {error.problem}") from error
        return FileResponse(file, media_type=pictures.kind_of(file), headers=KEPT)

    async def label(self, request: Request) -> Response:
        """Write a label."""
        post = await _read(request, LabelPost)
        names = [c.name for c in self.session.classes]
        if post.label not in names:
            raise Wrong("label", f"`{post.label}` is not a class", f"one of {', '.join(names)}")
        self._check_item(post.path, post.seconds)
        return await self._write(
            Draft(
                annotator=_annotator(post.annotator),
                path=post.path,
                action="label",
                label=post.label,
                seconds=post.seconds,
                client_id=_client(post.client_id),
            ),
            _count(str(post.n)),
        )

    async def skip(self, request: Request) -> Response:
        """Write that an annotator would not answer."""
        post = await _read(request, SkipPost)
        self._check_item(post.path, post.seconds)
        return await self._write(
            Draft(
                annotator=_annotator(post.annotator),
                path=post.path,
                action="skip",
                seconds=post.seconds,
                client_id=_client(post.client_id),
            ),
            _count(str(post.n)),
        )

    async def undo(self, request: Request) -> Response:
        """Take back an annotator's newest answer."""
        post = await _read(request, UndoPost)
        if post.path is not None:
            self._check_item(post.path, None)
        wish = Undo(_annotator(post.annotator), _client(post.client_id), post.path)
        return await self._write(wish, _count(str(post.n)))

    async def stats(self, request: Request) -> Response:
        """Answer what `mlstack label stats` shows."""
        events = await run_in_threadpool(read_events, Path(self.session.events))
        scope = quality.Scope(
            self.session.paths, [c.name for c in self.session.classes], self.session.known
        )
        stats = await run_in_threadpool(quality.stats, events, scope)
        return _json(msgspec.to_builtins(stats))

    async def _write(self, wish: Draft | Undo, count: int) -> Response:
        written: Written = await asyncio.wrap_future(self.writer.submit(wish))
        if written.event is not None and written.fresh:
            self.board.apply(written.event)
        paths = self.board.deal(wish.annotator, count)
        answer = self._hand_out(paths, wish.annotator)
        answer["seq"] = written.event.seq if written.event else None
        if isinstance(wish, Undo):
            undone = written.undone
            answer["undone"] = undone and {
                "path": undone.path,
                "action": undone.action,
                "label": undone.label,
            }
        return _json(answer)

    def _hand_out(self, paths: list[str], annotator: str) -> dict[str, Any]:
        items = [_item(path, self.board.label_of(path, annotator)) for path in paths]
        return {"items": items, "counts": asdict(self.board.progress(annotator))}

    def _check_item(self, path: str, seconds: float | None) -> None:
        if path not in self.board:
            raise Wrong("path", f"there is no item `{path}`", "take one from /api/next")
        if seconds is not None and not (math.isfinite(seconds) and seconds >= 0):
            raise Wrong("seconds", "must be a number of at least 0")


def build(desk: Desk) -> Starlette:
    """Lay out the addresses."""
    routes = [
        Route("/api/project", desk.project),
        Route("/api/next", desk.next),
        Route("/api/labeled", desk.labeled),
        Route("/api/items/{path:item}/image", desk.image),
        Route("/api/label", desk.label, methods=["POST"]),
        Route("/api/skip", desk.skip, methods=["POST"]),
        Route("/api/undo", desk.undo, methods=["POST"]),
        Route("/api/stats", desk.stats),
        Mount("/", StaticFiles(directory=WEB, html=True)),
    ]
    return Starlette(
        routes=routes, exception_handlers={Wrong: _say_wrong, MlstackError: _say_failed}
    )


async def _read(request: Request, kind: type[Post]) -> Post:
    body = await request.body()
    if len(body) > MAX_BODY_BYTES:
        raise Wrong("body", f"longer than {MAX_BODY_BYTES} bytes")
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        named = re.search(r"`\$\.(\w+)`|field `(\w+)`", str(error))
        field = (named[1] or named[2]) if named else "body"
        raise Wrong(field, str(error)) from error


def _annotator(name: str) -> str:
    if not is_person(name):
        raise Wrong(
            "annotator", f"must be a name of 1 to {MAX_NAME} characters, and not `{IMPORTER}`"
        )
    return name.strip()


def _client(client_id: str | None) -> str | None:
    if client_id is not None and not 1 <= len(client_id) <= 100:
        raise Wrong("client_id", "must have 1 to 100 characters")
    return client_id


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_ITEMS:
        raise Wrong("n", f"must be a whole number from 1 to {MAX_ITEMS}")
    return int(text)


def _place(text: str) -> int:
    if not text.isdecimal() or len(text) > MAX_DIGITS:
        raise Wrong("from", "must be a whole number of at least 0")
    return int(text)


def _item(path: str, label: str | None) -> dict[str, str | None]:
    return {"path": path, "image": f"/api/items/{quote(path)}/image", "label": label}


def _json(content: Any, status: int = 200) -> Response:
    return Response(
        msgspec.json.encode(content),
        status,
        headers={"cache-control": "no-store"},
        media_type="application/json",
    )


async def _say_wrong(_: Request, error: Exception) -> Response:
    assert isinstance(error, Wrong)
    body = {"field": error.field, "problem": error.problem, "hint": error.hint}
    return _json({"error": body}, error.status)


async def _say_failed(_: Request, error: Exception) -> Response:
    assert isinstance(error, MlstackError)
    body = {"field": "", "problem": error.problem, "hint": error.hint}
    return _json({"error": body}, 503)
