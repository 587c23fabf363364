"""The door of the server: takes connections in on one socket, and lets them go again."""

import asyncio
import contextlib
import socket
import ssl
from typing import Any

from mlstack.serve.worker.connection import Application, Connection, Open

BACKLOG = 2048
LINGER_S = 1.0  # how long an open connection may bring its last request
DRAIN_S = 30.0  # for the answers that are still to come
GOODBYE_S = 0.5
LOOK_S = 0.02


class Listener:
    """One listening socket and the connections that came through it."""

    def __init__(
        self, app: Application, listening: socket.socket, context: ssl.SSLContext | None
    ) -> None:
        self.open = Open()
        self._app = app
        self._socket = listening
        self._context = context  # of HTTPS
        self._server: asyncio.Server
        self._is_forced = False
        self._late: list[asyncio.Future[Any]] = []

    async def start(self) -> None:
        """Take connections in."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            self._connection, sock=self._socket, ssl=self._context, backlog=BACKLOG
        )

    async def drain(self) -> None:
        """Take no more in, and let open connections bring their last request, which ends them."""
        loop = asyncio.get_running_loop()
        self._take_waiting()
        self._server.close()
        until = loop.time() + LINGER_S
        await asyncio.sleep(LOOK_S)
        while self.open.connections and loop.time() < until:
            await asyncio.sleep(LOOK_S)

    def abort(self) -> None:
        """End all connections in the middle of whatever they do."""
        self._is_forced = True
        for connection in list(self.open.connections):
            connection.transport.abort()

    async def close(self) -> None:
        """End connections that ask nothing at once, the others behind their answers."""
        self._server.close()
        for connection in list(self.open.connections):
            connection.shutdown()
        goodbyes = [asyncio.create_task(self._part())] if self._context is not None else []
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._emptied(), DRAIN_S)
        left: list[asyncio.Future[Any]] = [*self.open.tasks, *self._late, *goodbyes]
        for one in left:
            one.cancel()

    def _connection(self) -> Connection:
        return Connection(self._app, self.open)

    def _take_waiting(self) -> None:
        """Take in who waits at the door: closing it would reset their connections."""
        loop = asyncio.get_running_loop()
        listening = self._socket.dup()
        listening.setblocking(False)
        with listening, contextlib.suppress(OSError):  # EAGAIN: nobody waits any more
            while True:
                accepted = listening.accept()[0]
                accepted.setblocking(False)
                taking = loop.connect_accepted_socket(self._connection, accepted, ssl=self._context)
                self._late.append(asyncio.ensure_future(taking))

    async def _emptied(self) -> None:
        while (self.open.connections or self.open.tasks) and not self._is_forced:
            await asyncio.sleep(LOOK_S)

    async def _part(self) -> None:
        """End HTTPS connections whose other side does not say goodbye; it has 30 s otherwise."""
        while connections := list(self.open.connections):
            closing = [one for one in connections if one.transport.is_closing()]
            await asyncio.sleep(GOODBYE_S)
            for connection in closing:
                connection.transport.abort()
