"""GPUs that are not there: held by this process, or shown to a command by a fake driver."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlstack.launch.gpus import Gpu, Machine, Wanted
from mlstack.launch.leases import claim

DRIVER = """#!/bin/sh
case "$1" in
--query-gpu=index*) printf '%s' '{gpus}' ;;
--query-gpu=uuid*) printf '%s' '{memory}' ;;
esac
"""


@contextmanager
def lease(
    wanted: Wanted, what: str, *, machine: Machine | None = None, table: Path | None = None
) -> Iterator[list[Gpu]]:
    """Hold GPUs for a block, or refuse at once."""
    with claim(wanted, what, machine=machine, table=table) as claimed:
        yield claimed.take()


def with_driver(folder: Path, *names: str) -> dict[str, str]:
    """Give the environment of a command that is shown GPUs, and a torch that could use them.

    uuids are GPU-0, GPU-1 and so on; leases lie in `gpus_table(folder)`.
    """
    program, torch = folder / "bin" / "nvidia-smi", folder / "site" / "torch-2.13.0.dist-info"
    for place in (program.parent, torch):
        place.mkdir(parents=True)
    gpus = "".join(f"{n}, GPU-{n}, {name}, 24564\n" for n, name in enumerate(names))
    memory = "".join(f"GPU-{n}, 1\n" for n, _ in enumerate(names))
    program.write_text(DRIVER.format(gpus=gpus, memory=memory))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (torch / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.13.0\n")
    paths = [str(torch.parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return os.environ | {
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "XDG_STATE_HOME": str(folder / "state"),
    }


def gpus_table(folder: Path) -> Path:
    """Give the file of the leases of a command that `with_driver` shows GPUs."""
    return folder / "state" / "mlstack" / "gpus.db"
