"""What runs on the cluster: each of Ray Train's workers starts one rank and waits for it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train.backend import Backend, BackendConfig

from mlstack.launch import ranks, tether
from mlstack.records.run import SPEC

RAY: Any = ray  # its own annotations are only half there
POLL_S = 0.25


@dataclass(frozen=True)
class Order:
    """What every rank runs."""

    module: str
    arguments: list[str]
    root: str
    run: str
    run_folder: str
    on_gpu: bool


@dataclass
class Board:
    """An actor between the driver and the workers: who has ended, and whether to stop."""

    exits: dict[int, int] = field(default_factory=dict)
    blind: list[str] = field(default_factory=list)  # machines that do not see the run's folder
    stopping: bool = False

    def stop(self) -> None:
        """Ask all ranks to stop."""
        self.stopping = True

    def is_stopping(self) -> bool:
        """Tell whether the ranks are to stop."""
        return self.stopping

    def tell(self, rank: int, code: int) -> None:
        """Say how a rank has ended."""
        self.exits[rank] = code

    def tell_blind(self, machine: str) -> None:
        """Say that a machine does not see the run's folder."""
        self.blind.append(machine)

    def told(self) -> tuple[dict[int, int], list[str]]:
        """Give the exit codes so far, and the machines that cannot see the run."""
        return self.exits, self.blind


class Meeting(Backend):
    """Tells the workers where rank 0 is; the ranks themselves open the process group there."""

    share_cuda_visible_devices = True  # as torchrun does: LOCAL_RANK chooses

    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        """Set the address in the environment of all workers."""
        address, port = worker_group.execute_single(0, _address)
        worker_group.execute(_meet, address, str(port))


class MeetingConfig(BackendConfig):
    """Chooses `Meeting`."""

    @property
    def backend_cls(self) -> type[Backend]:
        """Give the backend."""
        return Meeting


def host(given: Mapping[str, Any]) -> None:
    """Run one rank to its end and tell the board; called by Ray Train in each worker."""
    order: Order = given["order"]
    board = given["board"]
    if not (Path(order.run_folder) / SPEC).is_file():
        ray.get(board.tell_blind.remote(socket.gethostname()))
        return
    number = ray.train.get_context().get_world_rank()
    log = ranks.log_file(Path(order.run_folder), number)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        process = subprocess.Popen(
            tether.tied(signal.SIGKILL, [sys.executable, "-m", order.module, *order.arguments]),
            cwd=order.root,
            env=_environment(order),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    asked = False
    while process.poll() is None:
        if not asked and ray.get(board.is_stopping.remote()):
            asked = True
            process.terminate()
        time.sleep(POLL_S)
    ray.get(board.tell.remote(number, process.returncode))


def _environment(order: Order) -> dict[str, str]:
    context = ray.train.get_context()
    standing = ranks.Standing(
        number=context.get_world_rank(),
        count=context.get_world_size(),
        local_number=context.get_local_rank(),
        local_count=context.get_local_world_size(),
        group=context.get_node_rank(),
    )
    given = {"OMP_NUM_THREADS": "1"} | dict(os.environ)
    hidden = {} if order.on_gpu else {"CUDA_VISIBLE_DEVICES": ""}
    return given | ranks.contract(order.run, standing) | hidden


def _address() -> tuple[str, int]:
    with socket.socket() as probe:
        probe.bind(("", 0))
        here: str = RAY.util.get_node_ip_address()
        return here, probe.getsockname()[1]


def _meet(address: str, port: str) -> None:
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = address, port
