"""HTTPS of the server process: a context that follows a renewed certificate."""

import asyncio
import ssl

from mlstack.errors import MlstackError
from mlstack.records.server import TlsSpec
from mlstack.serve import certificate
from mlstack.serve.worker.said import log

LOOK_S = 1.0


class Tls:
    """The certificate of one server; `context` is None where HTTP is spoken."""

    def __init__(self, spec: TlsSpec | None) -> None:
        """Load the certificate.

        Raises:
            ConfigError: it cannot be read any more.
        """
        self._spec = spec
        self.context: ssl.SSLContext | None = None
        self.expires = 0.0  # seconds since the epoch
        if spec is not None:
            self.expires = certificate.check(spec).timestamp()
            self.context = certificate.server_context(spec)
        self._seen = self._stamp()

    async def watch(self) -> None:
        """Take up a renewed certificate; one that is not fit leaves the old one."""
        while self._spec is not None and self.context is not None:
            await asyncio.sleep(LOOK_S)
            stamp = self._stamp()
            if stamp == self._seen or stamp is None:
                continue
            try:
                self.expires = certificate.check(self._spec).timestamp()
                certificate.load(self.context, self._spec)
            except (MlstackError, OSError) as error:
                log.warning("the old certificate stays: %s", error)
            self._seen = stamp

    def _stamp(self) -> tuple[int, ...] | None:
        return None if self._spec is None else certificate.stamp(self._spec)
