"""Which loaded model answers a request: the live one, or for a sticky share of keys the canary."""

import zlib
from dataclasses import dataclass

from mlstack.serve.worker.answers import Refused, busy
from mlstack.serve.worker.batcher import Batcher
from mlstack.serve.worker.model import Model
from mlstack.serve.worker.shadow import Shadow

SCALE = 1 << 32


@dataclass(eq=False)
class Deployed:
    """A loaded model with its queue."""

    model: Model
    batcher: Batcher


@dataclass
class Traffic:
    """What is loaded now. Replaced as a whole between two requests, never half changed."""

    live: Deployed | None = None
    canary: Deployed | None = None
    canary_percent: float = 0.0
    shadow: Shadow | None = None
    shadow_percent: float = 0.0
    name: str = ""

    def pick(self, key: str) -> Deployed:
        """Choose for one request; equal keys get the same answer while the share stands.

        Raises:
            Refused: 503, nothing is loaded yet.
        """
        if self.live is None:
            raise busy(503, "the model is still loading")
        if self.canary is not None and share(key) * 100 < self.canary_percent:
            return self.canary
        return self.live

    def shadow_for(self, key: str) -> Shadow | None:
        """Give the shadow if this request belongs to its share.

        The canary's share is of the same keys, and what the canary answers no shadow is asked: read
        forwards, both would choose the same requests.
        """
        is_chosen = self.shadow is not None and share(key[::-1]) * 100 < self.shadow_percent
        return self.shadow if is_chosen else None

    def version(self, name: str, number: str) -> Deployed:
        """Find the version that a path names.

        Raises:
            Refused: 404, no such model or version is loaded.
        """
        if self.live is None:
            raise busy(503, "the model is still loading")
        if name != self.name:
            raise Refused(
                404, f"there is no model `{name}`; this server has `{self.name}`", field="path"
            )
        for deployed in self.loaded():
            if number in ("", str(deployed.model.number)):
                return deployed
        have = ", ".join(str(d.model.number) for d in self.loaded())
        raise Refused(404, f"version `{number}` is not loaded; loaded: {have}", field="path")

    def loaded(self) -> list[Deployed]:
        """List what answers, the live model first."""
        return [d for d in (self.live, self.canary) if d is not None]

    def roles(self) -> list[tuple[int, str, str]]:
        """List version, role and the provider that its session really uses."""
        named = (("live", self.live), ("canary", self.canary), ("shadow", self.shadow))
        return [
            (one.model.number, role, one.model.runner.provider)
            for role, one in named
            if one is not None and one.model is not None
        ]


def share(key: str) -> float:
    """Map a key to [0, 1), evenly and always to the same place."""
    return zlib.crc32(key.encode()) / SCALE
