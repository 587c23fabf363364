"""The ranks of a run on Ray, as the supervisor sees them: started by one driver."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from mlstack.launch import ranks, tether
from mlstack.launch.remote import Launcher, ranks_of

DRIVER = "mlstack.launch.on_ray.driver"
LOG = "ray.log"
ENDED = re.compile(r"^rank (\d+) ended with (-?\d+)$")  # what the driver says


@contextmanager
def started(command: ranks.Command) -> Iterator[list[ranks.Rank]]:
    """Run the ranks on the cluster for a block; none is left after it, however the block ends."""
    log = command.run_folder / "logs" / LOG
    log.parent.mkdir(parents=True, exist_ok=True)
    driver = [sys.executable, "-m", DRIVER, command.program.module, *command.arguments]
    with log.open("a") as sink:
        process = subprocess.Popen(
            tether.tied(signal.SIGTERM, driver),
            cwd=command.spec.root,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        ask = partial(process.send_signal, signal.SIGUSR1)
        launcher = Launcher(process, command.spec.ranks, read_exits, ask, sink)
        try:
            yield ranks_of(launcher, command)
        finally:
            launcher.kill()


def read_exits(line: str) -> dict[int, int]:
    """Read from a line of the driver which rank has ended, and how."""
    found = ENDED.match(line.rstrip())
    return {int(found[1]): int(found[2])} if found else {}
