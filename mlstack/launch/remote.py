"""Ranks on other machines: one launcher here starts them, and says how each has ended."""

import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from mlstack.launch import ranks

LEAVE_S = 60  # for a launcher to end the ranks, before it is killed itself
WORDS = 20  # lines of a launcher that are worth telling


class Launcher:
    """A process such as `srun`, and what it has said of its ranks.

    Args:
        process: the launcher; its stderr is a pipe of text.
        count: how many ranks it runs.
        read: gives the exit codes that a line of it tells, by rank.
        ask: asks all ranks to stop.
        sink: where the lines go on to.
    """

    def __init__(
        self,
        process: "subprocess.Popen[str]",
        count: int,
        read: Callable[[str], Mapping[int, int]],
        ask: Callable[[], None],
        sink: TextIO,
    ) -> None:
        self.process = process
        self.count = count
        self.words: list[str] = []
        self._read = read
        self._ask = ask
        self._sink = sink
        self._asked = False
        self._codes: dict[int, int] = {}
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def code(self, number: int) -> int | None:
        """Give a rank's exit code; None while it runs."""
        ended = self.process.poll()
        if ended is not None:
            self._listener.join()
        if number in self._codes or ended is None:
            return self._codes.get(number)
        return 0 if self._codes else ended  # whoever failed was named; else the launcher has

    def ask_to_stop(self) -> None:
        """Ask all ranks once."""
        if not self._asked and self.process.poll() is None:
            self._asked = True
            self._ask()

    def kill(self) -> None:
        """End the launcher, which kills its ranks; one whose ranks are gone leaves by itself."""
        if self.process.poll() is None and len(self._codes) < self.count:
            self.process.terminate()
        try:
            self.process.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._listener.join()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                self._sink.write(line)
                self._sink.flush()
                self.words = [*self.words[1 - WORDS :], line.rstrip("\n")]
                for number, code in self._read(line).items():
                    self._codes.setdefault(number, code)


@dataclass(frozen=True)
class RemoteRank:
    """One rank of a launcher."""

    number: int
    log: Path
    launcher: Launcher
    pid: int = 0  # it is on another machine
    is_lost: bool = False
    met_oom_killer: bool = False

    @property
    def code(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self.launcher.code(self.number)

    def ask_to_stop(self) -> None:
        """Ask it, and the others with it."""
        self.launcher.ask_to_stop()

    def kill(self) -> None:
        """Kill it, and the others with it."""
        self.launcher.kill()

    def ask_where(self) -> None:
        """Leave it: a signal that does not stop it is not worth a way through the cluster."""

    def last_words(self, lines: int = 20) -> str:
        """Give the end of what it printed, or of what its launcher did."""
        return ranks.last_lines(self.log, lines) or "\n".join(self.launcher.words[-lines:])


def ranks_of(launcher: Launcher, command: ranks.Command) -> list[ranks.Rank]:
    """List the ranks that a launcher runs."""
    return [
        RemoteRank(number, ranks.log_file(command.run_folder, number), launcher)
        for number in range(command.spec.ranks)
    ]
