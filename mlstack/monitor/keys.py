"""Single keys from a terminal, without waiting for return."""

import select
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


@contextmanager
def raw(stream: TextIO) -> Iterator[None]:
    """Read keys as they are pressed, for a block; Ctrl-C still interrupts."""
    if not stream.isatty():
        yield
        return
    before = termios.tcgetattr(stream)
    try:
        tty.setcbreak(stream)
        yield
    finally:
        termios.tcsetattr(stream, termios.TCSADRAIN, before)


def is_pressed(stream: TextIO, key: str, *, wait_s: float) -> bool:
    """Wait up to `wait_s` for a key; tell whether it is the one."""
    ready, _, _ = select.select([stream] if stream.isatty() else [], [], [], wait_s)
    return bool(ready) and stream.read(1).lower() == key
