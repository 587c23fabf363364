"""A real cluster of Slurm on loopback: munged, slurmctld and a slurmd for each of its nodes."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path

import fixed_ports

from mlstack.launch import tether

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel")
NODES = ("na", "nb")
CONFIG = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={ports[0]}
AuthType=auth/munge
CredType=cred/munge
# A job that was put back begins when its credential has expired: after 5 s, not 120.
AuthInfo=socket={home}/munge.socket,cred_expire=5
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool-%n
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=100000
ReturnToService=2
SlurmdParameters=config_overrides
KillWait=20
GresTypes=gpu
NodeName={nodes[0]} NodeAddr=127.0.0.1 NodeHostname={host} Port={ports[1]} CPUs=4 Gres=gpu:1
NodeName={nodes[1]} NodeAddr=127.0.0.1 NodeHostname={host} Port={ports[2]} CPUs=4 Gres=gpu:1
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
PartitionName=blind Nodes={nodes[1]} MaxTime=INFINITE State=UP
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=cheap Nodes={nodes[0]} PriorityTier=1 PreemptMode=CANCEL GraceTime=20 State=UP
PartitionName=patient Nodes={nodes[0]} PriorityTier=1 PreemptMode=REQUEUE GraceTime=20 State=UP
PartitionName=hasty Nodes={nodes[0]} PriorityTier=1 PreemptMode=REQUEUE State=UP
PartitionName=dear Nodes={nodes[0]} PriorityTier=9 PreemptMode=OFF State=UP
"""
GRES = "NodeName=na,nb Name=gpu File=/dev/null\n"


@dataclass
class Cluster:
    """A cluster that runs."""

    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """What makes Slurm's commands speak to it."""
        return os.environ | {"SLURM_CONF": str(self.home / "slurm.conf"), "OMP_NUM_THREADS": "1"}

    def ask(self, *words: str) -> str:
        """Run one of Slurm's commands."""
        done = subprocess.run(
            words, env=self.environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout.strip()

    def state(self, job: str) -> str:
        """Give the state of a job."""
        fields = self.ask("scontrol", "show", "job", "-o", job).split()
        return next(f.partition("=")[2] for f in fields if f.startswith("JobState="))

    def wait(self, job: str, *states: str, limit_s: float = 60) -> None:
        """Wait until a job is in one of these states."""
        until(lambda: self.state(job) in states, limit_s)


@contextmanager
def serving(unseen: Path | None = None) -> Iterator[Cluster]:
    """Run a cluster of two nodes for a block, as whoever runs the tests.

    Args:
        unseen: a folder that node `nb` does not see; only root can have that.
    """
    missing = [name for name in PROGRAMS if not _find(name)]
    assert not missing, f"the tests need {', '.join(missing)}; type: make system"
    home = Path(tempfile.mkdtemp(prefix="mlstack-slurm-"))
    cluster = Cluster(home)
    with ExitStack() as running:
        running.callback(shutil.rmtree, home, ignore_errors=True)
        _configure(home)
        key = home / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        munge = ["--foreground", "--force", f"--key-file={key}", f"--socket={home}/munge.socket"]
        munge += [f"--{what}-file={home}/munge.{what}" for what in ("pid", "log", "seed")]
        running.enter_context(_daemon(home, "munged", *munge))
        until((home / "munge.socket").exists)
        configured = ["-D", "-f", str(home / "slurm.conf")]
        running.enter_context(_daemon(home, "slurmctld", "-i", *configured))
        for node in NODES:
            words = ["slurmd", *configured, "-N", node]
            if unseen and node == "nb":
                hide = f"mount -t tmpfs none '{unseen}' && exec \"$@\""
                words = [
                    "unshare",
                    "--mount",
                    "sh",
                    "-c",
                    hide,
                    "hide",
                    str(_find("slurmd")),
                    *words[1:],
                ]
            running.enter_context(_daemon(home, *words, log=f"slurmd-{node}"))
        until(lambda: cluster.ask("sinfo", "-h", "-N", "-p", "main", "-t", "idle").count("\n") == 1)
        yield cluster


def until(true, limit_s: float = 30) -> None:
    """Wait for something."""
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline, f"not within {limit_s} s"
        time.sleep(0.05)


def _configure(home: Path) -> None:
    (home / "state").mkdir()
    host = socket.gethostname().partition(".")[0]
    ports = fixed_ports.free(3)
    text = CONFIG.format(host=host, user=getuser(), home=home, ports=ports, nodes=NODES)
    (home / "slurm.conf").write_text(text)
    (home / "gres.conf").write_text(GRES)


@contextmanager
def _daemon(home: Path, name: str, *words: str, log: str = "") -> Iterator[None]:
    path = home / f"{log or name}.log"
    environment = os.environ | {"SLURM_CONF": str(home / "slurm.conf")}
    with path.open("wb") as stream:
        process = subprocess.Popen(
            tether.tied(signal.SIGTERM, [str(_find(name)), *words]),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            cwd=home,
            env=environment,
            start_new_session=True,
        )
    try:
        time.sleep(0.1)
        assert process.poll() is None, path.read_text()
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _find(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
