"""Start the ranks of a run, watch them, and leave no process behind.

What a worker (`python -m mlstack.train.worker RUN_FOLDER [--resume]`, one process a rank) may
rely on, and what it must do:

Environment: torchelastic's contract. RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, GROUP_RANK,
GROUP_WORLD_SIZE, ROLE_RANK, ROLE_WORLD_SIZE, MASTER_ADDR (127.0.0.1), MASTER_PORT (free),
TORCHELASTIC_RUN_ID (the run's id), TORCHELASTIC_RESTART_COUNT, TORCHELASTIC_MAX_RESTARTS;
TORCHELASTIC_USE_AGENT_STORE is absent, so rank 0 opens the store. OMP_NUM_THREADS shares the
cores. CUDA_DEVICE_ORDER is PCI_BUS_ID; CUDA_VISIBLE_DEVICES holds the GPUs of the whole run, the
same in every rank (LOCAL_RANK chooses), and is empty for a run on the CPU. All of this is set for
one rank as well. The working directory is the project's folder, stdin is empty, stdout and stderr
go to `logs/rank-N.log`. Each rank leads a session of its own, so Ctrl-C never reaches it; it is
killed when the supervisor dies.

Files below RUN_FOLDER: `run.json` (RunSpec) and `examples.parquet` are there. Rank 0 appends
events to `events.jsonl` with `records.run.append_event`: Started, then Stepped (at most a few a
second), CheckpointSaved, EpochEnded, and at the very end one of Finished, Stopped, Failed. Any
rank that raises appends Failed, with the name of its error class as `category`, and exits with 1.
With `mode == "check"` the events are Started, Checked for each check, then Finished, whether or
not the checks passed. Each rank touches `heartbeat-N` (`heartbeat` below) at most once a second
from the training, validation and test loop itself, never from a thread: a rank that has not done
so for `Patience.hang_s` is taken for hung.

Signals: SIGTERM means: finish the current batch, save `checkpoints/last.ckpt`, append Stopped,
exit with 0 (all ranks get it, not at the same batch: agree before leaving). SIGKILL follows after
`Patience.stop_s`. `--resume` goes on from `checkpoints/last.ckpt`, or from the start when there is
none yet. Exit codes: 0 after Finished or Stopped, 1 after Failed.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from mlstack import errors, files
from mlstack.errors import Interrupted, MlstackError, StepError
from mlstack.launch import tether
from mlstack.records import run as runs
from mlstack.records.run import CheckpointSaved, Failed, Finished, RunEvent, RunSpec, Stopped

WORKER = "mlstack.train.worker"
LOCK = "lock"


def heartbeat(run_folder: Path, rank: int) -> Path:
    """Give the file that a rank touches to show that it moves."""
    return run_folder / f"heartbeat-{rank}"


def log(run_folder: Path, rank: int) -> Path:
    """Give the file that holds what a rank printed."""
    return run_folder / "logs" / f"rank-{rank}.log"
