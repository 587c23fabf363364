"""Being asked to stop: a flag that a signal sets and that the loop reads between two steps."""

import signal
from typing import Any


class StopRequest:
    """Remembers the first SIGTERM or SIGINT; a second SIGINT ends the process at once.

    SIGTERM may come twice, from a scheduler to every process of a job and from whoever started
    this one. It is SIGKILL that ends what does not want to.
    """

    def __init__(self) -> None:
        self.reason = ""

    @property
    def asked(self) -> bool:
        """Tell whether a signal has come."""
        return bool(self.reason)

    def install(self) -> None:
        """Take both signals; called again once Lightning has put its own handler in."""
        if not self.asked:
            signal.signal(signal.SIGTERM, self._remember)
            signal.signal(signal.SIGINT, self._remember)

    def _remember(self, number: int, _: Any) -> None:
        self.reason = signal.Signals(number).name
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
