"""A worker never outlives the command that started it."""

import io
import os
import signal
import subprocess
import sys
import time

import msgspec
import psutil
import pytest

from mlstack.launch.worker import report
from mlstack.records.worker import WorkerFailed

WORKER = """
import os, sys, time
print('{"kind":"worker.progress","text":"%d","done":0,"total":1}' % os.getpid(), flush=True)
time.sleep(60)
"""
COMMAND = """
from pathlib import Path
import msgspec
from mlstack.launch.worker import run_worker
from mlstack.records.worker import WorkerProgress
decode = msgspec.json.Decoder(WorkerProgress).decode
for said in run_worker("sleepy", [], decode, Path("log")):
    print(said.text, flush=True)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's own signal")
def test_a_worker_ends_when_the_command_that_started_it_is_killed(tmp_path):
    (tmp_path / "sleepy.py").write_text(WORKER)
    command = subprocess.Popen(
        [sys.executable, "-c", COMMAND],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with command:
        worker = int(command.stdout.readline())

        command.send_signal(signal.SIGKILL)

        assert ended(worker, within_s=10)


def ended(pid, within_s):
    """Wait until a process is gone, or dead with nobody to ask for its exit code."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    ("error", "problem"),
    [(SystemExit(0), "SystemExit: 0"), (ValueError("half: \ud800"), "ValueError: half: ?")],
)
def test_what_ends_the_process_or_is_no_text_reaches_the_front(error, problem):
    def work():
        raise error
        yield

    channel = io.BytesIO()

    code = report(work(), channel)

    assert code == 1
    assert msgspec.json.decode(channel.getvalue(), type=WorkerFailed).problem == problem
