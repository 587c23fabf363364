"""Drive a run on Ray: `python -m mlstack.launch.on_ray.driver MODULE RUN_FOLDER [--resume]`.

It says on stderr how each rank has ended. SIGUSR1 asks the ranks to stop; SIGTERM ends everything
at once, and with it a cluster that was started here.
"""

import logging
import os
import shutil
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
os.environ.setdefault("RAY_TRAIN_METRICS_ENABLED", "0")

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mlstack.errors import BusyError, MachineError
from mlstack.launch import verdict
from mlstack.launch.on_ray.hosts import Board, MeetingConfig, Order, host
from mlstack.records.base import read
from mlstack.records.run import SPEC, RunSpec, append_event

RAY: Any = ray  # its own annotations are only half there
ADDRESS = "RAY_ADDRESS"
POLL_S = 0.1
REACH_S = 10
FREE_S = 20  # until what another run of this cluster has just left counts as free
STORAGE = ".ray"  # below the run's folder: Ray Train wants to keep something, and has nothing to
PASSED_ON = ("PYTHONPATH", "OMP_NUM_THREADS", "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


def main() -> int:
    """Run all ranks; give 0 when the driver itself has had no trouble."""
    module, *arguments = sys.argv[1:]
    folder = Path(arguments[0])
    spec = read(folder / SPEC, RunSpec)
    wish = _Wish()
    signal.signal(signal.SIGUSR1, wish.ask)
    signal.signal(signal.SIGTERM, wish.leave)
    try:
        _connect(spec)
        _take_turn(spec, wish)
        order = Order(module, arguments, spec.root, spec.id, str(folder), bool(spec.gpus))
        return _drive(spec, order, wish)
    except (BusyError, MachineError) as error:
        name = type(error).__name__
        append_event(folder, verdict.told(spec.id, error.problem, error.hint, category=name))
        return 1
    finally:
        ray.shutdown()
        shutil.rmtree(folder / STORAGE, ignore_errors=True)


@dataclass
class _Wish:
    """What the signals have asked for."""

    stop: bool = False

    def ask(self, *_: object) -> None:
        self.stop = True

    def leave(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise SystemExit(128 + signal.SIGTERM)


def _connect(spec: RunSpec) -> None:
    """Join the cluster of RAY_ADDRESS, or start one of this machine's cores.

    Raises:
        MachineError: it does not answer, or is too small.
    """
    address = os.environ.get(ADDRESS) or "local"
    _reach(address)
    own: dict[str, Any] = {"include_dashboard": False}
    if not spec.gpus:
        own["num_cpus"] = max(spec.ranks * _cpus(spec), os.cpu_count() or 1)
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": {n: os.environ[n] for n in PASSED_ON if os.environ.get(n)}},
            **(own if address == "local" else {}),
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise _no_answer(address, f"{error}".strip().split("\n")[0]) from error
    short = _lack(spec, RAY.cluster_resources())
    if short:
        raise MachineError(
            f"the cluster of Ray has {short} that the run needs",
            hint="change train.ranks or train.ray, or add machines to the cluster first",
        )


def _take_turn(spec: RunSpec, wish: "_Wish") -> None:
    """See that others leave enough of the cluster: Ray would wait without a word.

    Raises:
        BusyError: they do not.
    """
    deadline = time.monotonic() + FREE_S
    while short := _lack(spec, RAY.available_resources()):
        if wish.stop:
            raise SystemExit(0)
        if time.monotonic() > deadline:
            raise BusyError(
                f"the cluster of Ray has {short} free that the run needs",
                hint="`ray status` says what is in use; try again when others are done",
            )
        time.sleep(POLL_S)


def _lack(spec: RunSpec, there: dict[str, float]) -> str:
    """Say of what there is too little; empty when there is enough."""
    wanted = {"CPU": spec.ranks * _cpus(spec), "GPU": spec.ranks if spec.gpus else 0}
    has = {what: there.get(what, 0) for what in wanted}
    return " and ".join(f"{has[w]:g} of {n} {w}s" for w, n in wanted.items() if has[w] < n)


def _reach(address: str) -> None:
    """Try HOST:PORT before Ray does: Ray would try for minutes.

    Raises:
        MachineError: nobody listens there.
    """
    host_name, _, port = address.rpartition(":")
    if not port.isdecimal():
        return
    try:
        socket.create_connection((host_name.rpartition("/")[2], int(port)), REACH_S).close()
    except OSError as error:
        raise _no_answer(address, f"{error}") from error


def _no_answer(address: str, why: str) -> MachineError:
    return MachineError(
        f"{ADDRESS}: no cluster of Ray answers at `{address}`: {why}",
        hint="`ray status` on its head says whether it runs; without the variable one is started "
        "here",
    )


def _drive(spec: RunSpec, order: Order, wish: _Wish) -> int:
    board = board_here()
    trainer = DataParallelTrainer(
        host,
        train_loop_config={"order": order, "board": board},
        backend_config=MeetingConfig(),
        scaling_config=ScalingConfig(
            num_workers=spec.ranks,
            use_gpu=bool(spec.gpus),
            resources_per_worker={"CPU": _cpus(spec), **({"GPU": 1} if spec.gpus else {})},
        ),
        run_config=RunConfig(
            name=spec.id,
            storage_path=str(Path(order.run_folder) / STORAGE),
            failure_config=FailureConfig(max_failures=0),
        ),
    )
    trouble: list[Exception] = []
    training = threading.Thread(target=_fit, args=(trainer, trouble), daemon=True)
    training.start()
    told: set[int] = set()
    while training.is_alive():
        if wish.stop:
            wish.stop = False
            board.stop.remote()
        _tell(board, order, told)
        time.sleep(POLL_S)
    _tell(board, order, told)
    for error in trouble:
        _tell_lost(spec, Path(order.run_folder), error, told)
    return 1 if trouble else 0


def board_here() -> Any:
    """Make a board on the driver's own node.

    Ray puts what needs no core on any (also when asked softly), and when a board goes with its node
    no rank is named.
    """
    here = NodeAffinitySchedulingStrategy(RAY.get_runtime_context().get_node_id(), soft=False)
    return RAY.remote(num_cpus=0, scheduling_strategy=here)(Board).remote()


def _fit(trainer: Any, trouble: list[Exception]) -> None:
    try:
        trainer.fit()
    except Exception as error:  # whatever it is, the run must not wait for ever
        trouble.append(error)


def _tell(board: Any, order: Order, told: set[int]) -> None:
    """Say which ranks have ended since.

    Raises:
        MachineError: a machine of the cluster does not see the run's folder.
    """
    exits, blind = ray.get(board.told.remote())
    if blind:
        raise MachineError(
            f"{blind[0]}, a machine of the cluster, does not see `{order.run_folder}`",
            hint="put the project on a file system that the machines of the cluster share",
        )
    for number, code in sorted(exits.items()):
        if number not in told:
            told.add(number)
            sys.stderr.write(f"rank {number} ended with {code}\n")
            sys.stderr.flush()


def _tell_lost(spec: RunSpec, folder: Path, error: Exception, told: set[int]) -> None:
    """Name the ranks that went with their machine, or with Ray's process on it."""
    sys.stderr.write(f"{error}\n")
    lost = sorted(set(getattr(error, "worker_failures", {})) - told)
    who = f"rank {lost[0]}" if lost else "the run"
    first = f"{error}".strip().split("\n")[0]
    problem = f"{who} was lost with its worker of Ray (has its machine gone?)" if lost else first
    hint = "`mlstack train --on ray --resume` goes on"
    append_event(folder, verdict.told(spec.id, problem, hint, rank=lost[0] if lost else 0))


def _cpus(spec: RunSpec) -> int:
    cpus: int = spec.config.get("train", {}).get("ray", {}).get("cpus_per_rank", 1)
    return cpus


if __name__ == "__main__":
    sys.exit(main())
