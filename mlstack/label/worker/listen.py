"""A socket to listen on and the server that ends with its parent."""

import errno
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from mlstack.errors import ConfigError, MachineError

PARENT_CHECK_S = 1.0


@contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    """Bind a socket before anything is started; port 0 takes a free one.

    Raises:
        MachineError: the port is taken or not allowed.
        ConfigError: the host is no address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
        except socket.gaierror as error:
            raise ConfigError(
                f"--host: `{host}` is no address", hint="leave it out, or write 127.0.0.1"
            ) from error
        except OSError as error:
            raise _cannot_bind(host, port, error) from error
        listening.listen(128)
        yield listening


def run(app: ASGIApp, listening: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM, or until the process that started us is gone."""
    config = uvicorn.Config(
        app,
        lifespan="off",
        access_log=False,
        log_level="warning",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    threading.Thread(target=_watch_parent, args=(server,), daemon=True).start()
    server.run(sockets=[listening])


def _watch_parent(server: uvicorn.Server) -> None:
    """Stop when the command that started us was killed: nobody could stop us any more."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_S)
    server.should_exit = True


def _cannot_bind(host: str, port: int, error: OSError) -> MachineError | ConfigError:
    if error.errno == errno.EADDRINUSE:
        return MachineError(
            f"port {port} is taken", hint="type `mlstack label --port 0` to take a free one"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return ConfigError(f"--host: `{host}` is no address of this machine", hint="leave it out")
    return MachineError(
        f"cannot listen on {host}:{port}: {error.strerror}", hint="choose a port above 1023"
    )
