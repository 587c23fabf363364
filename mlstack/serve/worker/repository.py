"""The repository extension of the Open Inference Protocol: list packages, load and unload."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mlstack.errors import MlstackError
from mlstack.records.package import numbers
from mlstack.serve.worker.answers import Answer, Refused, bad, json_answer
from mlstack.serve.worker.traffic import Traffic

PREFIX = "/v2/repository/models/"


class IndexBody(msgspec.Struct, frozen=True):
    """What `index` is asked with; nothing at all is as good."""

    ready: bool = False


_json = msgspec.json.Decoder(IndexBody)


@dataclass
class Repository:
    """The packages of one model, and what may be done with them."""

    folder: Path
    is_explicit: bool  # `serve.model_control: explicit`
    load: Callable[[], Awaitable[None]]
    unload: Callable[[], None]

    def index(self, body: bytes, traffic: Traffic) -> Answer:
        """List every package with its state.

        Raises:
            Refused: 400, the body is not what the protocol says.
        """
        try:
            asked = _json.decode(body) if body else IndexBody()
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise bad(f"the body is not what `index` takes: {error}", "body") from error
        loaded = {deployed.model.number for deployed in traffic.loaded()}
        listed = sorted(loaded | set(numbers(self.folder)))
        entries = [_entry(traffic.name, number, number in loaded) for number in listed]
        return json_answer([e for e in entries if e["state"] == "READY" or not asked.ready])

    async def change(self, path: str, name: str) -> Answer:
        """Load what `live.json` names, or let it go.

        Raises:
            Refused: 403 not allowed, 404 unknown, 400 what is live cannot be loaded.
        """
        asked, _, verb = path.removeprefix(PREFIX).rpartition("/")
        if asked != name or verb not in ("load", "unload"):
            raise Refused(
                404, f"there is no `{path[:200]}`; this server has `{name}`", field="path"
            )
        if not self.is_explicit:
            problem = "models are not loaded by requests here (`serve.model_control: explicit`)"
            raise Refused(403, problem, field="path")
        if verb == "unload":
            self.unload()
            return json_answer({})
        try:
            await self.load()
        except MlstackError as error:
            raise Refused(400, f"it cannot be loaded: {error.problem}") from error
        return json_answer({})


def _entry(name: str, number: int, is_loaded: bool) -> dict[str, str]:
    state = "READY" if is_loaded else "UNAVAILABLE"
    reason = "" if is_loaded else "not live"
    return {"name": name, "version": str(number), "state": state, "reason": reason}
