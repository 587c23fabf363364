"""Ports for servers that must be told theirs before they bind it."""

import random
import socket

LOW = range(20_000, 30_000)  # below those that the kernel gives to connections of other programs


def free(count: int) -> list[int]:
    """Find ports of loopback that nobody listens at."""
    found: list[int] = []
    while len(found) < count:
        port = random.choice(LOW)
        with socket.socket() as probe:
            if port not in found and probe.connect_ex(("127.0.0.1", port)):
                found.append(port)
    return found
