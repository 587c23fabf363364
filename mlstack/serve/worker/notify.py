"""Tell systemd what the server is at (sd_notify): nothing where nobody asked to be told."""

import contextlib
import os
import socket


def tell(state: str) -> None:
    """Send `READY=1`, `STOPPING=1` or `WATCHDOG=1` to `NOTIFY_SOCKET`."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # a name that is no file
        address = "\0" + address[1:]
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending,
    ):
        sending.sendto(state.encode(), address)
