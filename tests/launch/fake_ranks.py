"""A worker without torch: `behave-N` in the run's folder says what rank N does."""

import os
import signal
import sys
import time
from pathlib import Path

from mlstack.records.heartbeat import Activity, Heart
from mlstack.records.run import (
    CheckpointSaved,
    EpochEnded,
    Failed,
    Finished,
    Started,
    Stopped,
    append_event,
)

RUN = Path(sys.argv[1])
RANK = int(os.environ["RANK"])
NAME = RUN.name
behave_file = RUN / f"behave-{RANK}"
BEHAVE = behave_file.read_text() if behave_file.is_file() else "train"
stop_asked = False
steps = 0
HEART = Heart(RUN / f"heartbeat-{RANK}")


def stop(*_):
    global stop_asked
    stop_asked = True


def beat():
    global steps
    steps += 1
    HEART.beat(steps, Activity.FORWARD, idle_s=600, busy_s=600)


def say(event):
    if RANK == 0:
        append_event(RUN, event)


def step(seconds=0.02):
    beat()
    time.sleep(seconds)
    if stop_asked:
        say(CheckpointSaved(run=NAME, at=time.time(), file="checkpoints/last.ckpt", step=7))
        say(Stopped(run=NAME, at=time.time(), step=7, reason="SIGTERM"))
        sys.exit(0)


def train(epochs=2, seconds=0.02):
    for epoch in range(1, epochs + 1):
        step(seconds)
        say(
            EpochEnded(
                run=NAME,
                at=time.time(),
                epoch=epoch,
                epochs=epochs,
                step=epoch * 10,
                metrics={"val/loss": 1 / epoch},
            )
        )
    say(
        Finished(run=NAME, at=time.time(), step=epochs * 10, epoch=epochs, metrics={"val/acc": 0.5})
    )


signal.signal(signal.SIGTERM, signal.SIG_IGN if BEHAVE == "ignore-sigterm" else stop)
(RUN / f"environment-{RANK}").write_text("\n".join(f"{k}={v}" for k, v in os.environ.items()))
(RUN / f"pid-{RANK}").write_text(str(os.getpid()))
(RUN / f"arguments-{RANK}").write_text(" ".join(sys.argv[1:]))
say(Started(run=NAME, at=time.time(), ranks=int(os.environ["WORLD_SIZE"])))
print(f"rank {RANK} is up")
beat()
match BEHAVE:
    case "train":
        train()
    case "train-long":
        train(epochs=6000)
    case "raise":
        time.sleep(0.1)
        failed = Failed(
            run=NAME,
            at=time.time(),
            rank=RANK,
            problem="ValueError: no",
            traceback="Traceback: no",
            category="DataError",
        )
        append_event(RUN, failed)
        sys.exit(1)
    case "crash":
        raise RuntimeError("nobody caught this")
    case "die":
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)
    case "complain" | "complain-early":  # as gloo does when a peer is gone
        time.sleep(0.25 if BEHAVE == "complain" else 0.15)
        append_event(
            RUN,
            Failed(
                run=NAME,
                at=time.time(),
                rank=RANK,
                problem="RuntimeError: Connection reset by peer",
            ),
        )
        sys.exit(1)
    case "wait":  # before the first step
        while not stop_asked:
            time.sleep(0.02)
        say(Stopped(run=NAME, at=time.time(), step=0, reason="SIGTERM"))
    case "leave":
        sys.exit(0)
    case "hang" | "ignore-sigterm":
        time.sleep(600)
