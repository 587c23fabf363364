"""Two hosts train one model: network namespaces stand for machines, torchrun starts the ranks."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from mlstack.files import lock
from mlstack.launch.supervise import is_running
from mlstack.records.run import (
    EVENTS,
    LOCK,
    Failed,
    Finished,
    Reading,
    Started,
    append_event,
    read_events,
)

Plan = Callable[..., Path]

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

HOSTS = ("10.213.7.1", "10.213.7.2")
PORT = 29417


def ip(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=False)


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Give the names of two network namespaces with a cable between them."""
    names = [f"mlstack-{os.getpid()}-{number}" for number in (0, 1)]
    ends = [f"ml{os.getpid() % 100_000}{end}" for end in "ab"]
    steps = [["netns", "add", name] for name in names]
    steps.append(["link", "add", ends[0], "type", "veth", "peer", "name", ends[1]])
    for name, end, address in zip(names, ends, HOSTS, strict=True):
        steps.append(["link", "set", end, "netns", name])
        steps.append(["-n", name, "addr", "add", f"{address}/24", "dev", end])
        steps += [["-n", name, "link", "set", device, "up"] for device in (end, "lo")]
    try:
        for step in steps:
            if ip(*step).returncode:
                pytest.skip(f"this machine does not allow `ip {' '.join(step)}`")
        yield names
    finally:
        for name in names:
            ip("netns", "del", name)


def torchrun(host: str, number: int, run: Path) -> "subprocess.Popen[str]":
    device = ip("-n", host, "-o", "addr", "show", "to", HOSTS[number]).stdout.split()[1]
    words = ["--nnodes=2", "--nproc-per-node=1", f"--node-rank={number}"]
    words += [f"--master-addr={HOSTS[0]}", f"--master-port={PORT}"]
    words += ["-m", "mlstack.train.worker", str(run / "run.json")]
    return subprocess.Popen(
        ["ip", "netns", "exec", host, sys.executable, "-m", "torch.distributed.run", *words],
        env=os.environ | {"GLOO_SOCKET_IFNAME": device, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def elastic(number: int, port: int) -> dict[str, str]:
    """Give torchelastic's variables of one of two ranks on this host."""
    return {
        "RANK": str(number),
        "LOCAL_RANK": str(number),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "near",
    }


def weights(run: Path) -> dict[str, bytes]:
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=False)["state_dict"]
    return {name: tensor.numpy().tobytes() for name, tensor in state.items()}


def test_under_torchrun_a_run_that_is_being_trained_is_left_alone(
    plan: Plan, start: Callable
) -> None:
    run = plan("taken")
    append_event(run, Reading(run=run.name, at=1.0, text="x", done=0, total=1))
    told = (run / EVENTS).read_bytes()

    with lock(run / LOCK, "the run"):
        second = start(run, "--resume", TORCHELASTIC_USE_AGENT_STORE="True")
        said = second.communicate(timeout=60)[0]

    assert second.returncode == 75, said
    assert "busy with run `taken`" in said
    assert (run / EVENTS).read_bytes() == told


def test_under_torchrun_nobody_else_trains_the_run(plan: Plan, start: Callable) -> None:
    run = plan("alone", "train.epochs=500")

    process = start(run, TORCHELASTIC_USE_AGENT_STORE="False")
    deadline = time.monotonic() + 60
    while not any(isinstance(event, Started) for event in read_events(run)):
        assert time.monotonic() < deadline
        time.sleep(0.1)

    assert is_running(run)
    process.terminate()
    assert process.wait(60) == 0
    assert not is_running(run)


def test_other_ranks_than_the_run_has_are_refused(plan: Plan, start: Callable) -> None:
    run = plan("one")
    port = free_port()

    ranks = [start(run, "--resume", **elastic(number, port)) for number in (0, 1)]
    said = [process.communicate(timeout=100)[0] for process in ranks]

    assert [process.returncode for process in ranks] == [1, 1], said
    last = read_events(run)[-1]
    assert isinstance(last, Failed)
    assert last.problem == "run `one` has 1 rank, and 2 were started"
    assert last.category == "ConfigError"


def test_torchrun_on_two_hosts_trains_what_two_ranks_here_do(
    plan: Plan, start: Callable, hosts: list[str]
) -> None:
    far, near = plan("far", "train.ranks=2"), plan("near", "train.ranks=2")

    ranks = [torchrun(host, number, far) for number, host in enumerate(hosts)]
    said = [process.communicate(timeout=200)[0] for process in ranks]
    port = free_port()
    here = [start(near, **elastic(number, port)) for number in (0, 1)]
    said += [process.communicate(timeout=200)[0] for process in here]

    assert [process.returncode for process in (*ranks, *here)] == [0, 0, 0, 0], said
    assert isinstance(read_events(far)[-1], Finished)
    assert weights(far) == weights(near)
