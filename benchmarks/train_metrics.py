"""What a metric costs in the step path: mlstack's records against trackers that are called there.

Each side is a process of its own and calls what a training loop would call, once a step; CPU
microseconds of the calling process (with its threads), median of the rounds. mlstack is called
inside a real `Trainer.fit`, with the callbacks of a run: it keeps at most four records a second
within an epoch, the others keep every step.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile

TIMED = """
import sys, time
def timed(call, count):
    began = time.process_time()
    for step in range(count):
        call(step)
    return (time.process_time() - began) / count * 1e6
"""
OWN = (
    TIMED
    + """
import warnings
from pathlib import Path
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset
from mlstack.records.run import Stepped, append_event
from mlstack.train.worker.callbacks import Progress
from mlstack.train.worker.ranks import Rank
from mlstack.train.worker.speed import Speedometer
warnings.filterwarnings("ignore")
class Spec:
    id = "run"
class Job:
    folder, spec, rank = Path(sys.argv[1]), Spec(), Rank()
class Net(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
    def training_step(self, batch, _):
        return self.layer(batch[0]).mean()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)
class Measure(Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        if trainer.global_step != 50:
            return
        progress, speed = Progress(Job()), Speedometer(Job())
        progress.on_train_batch_end(trainer, module, outputs, batch, 1)
        loop = trainer.fit_loop.epoch_loop
        def step(_):
            loop._on_before_fetch()
            loop._on_after_fetch()
            progress.on_train_batch_end(trainer, module, outputs, batch, 1)
            speed.on_train_batch_end(trainer, module, outputs, batch, 1)
        def record(_):
            progress._last = 0.0
            progress.on_train_batch_end(trainer, module, outputs, batch, 1)
        bare = timed(lambda _: (loop._on_before_fetch(), loop._on_after_fetch()), 20000)
        speed.on_train_start(trainer, module)
        print(timed(step, 20000) - bare, timed(record, 5000))
data = DataLoader(TensorDataset(torch.zeros(400, 4)), batch_size=4)
Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_progress_bar=False,
        enable_checkpointing=False, enable_model_summary=False,
        callbacks=[Measure()]).fit(Net(), data)
"""
)
TENSORBOARD = (
    TIMED
    + """
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.event_file_writer import EventFileWriter
writer = EventFileWriter(sys.argv[1])
def log(step):
    value = summary_pb2.Summary.Value(tag="loss", simple_value=0.5)
    summary = summary_pb2.Summary(value=[value])
    writer.add_event(event_pb2.Event(summary=summary, step=step, wall_time=time.time()))
print(timed(log, 20000))
"""
)
WANDB = (
    TIMED
    + """
import os
os.environ |= {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}
import wandb
run = wandb.init(mode="offline", dir=sys.argv[1], project="p",
                 settings=wandb.Settings(console="off", x_disable_stats=True))
print(timed(lambda step: run.log({"loss": 0.5}, step=step), 3000))
run.finish()
"""
)
MLFLOW = (
    TIMED
    + """
import logging
import mlflow
logging.disable()
mlflow.set_tracking_uri(f"sqlite:///{sys.argv[1]}/m.db")
with mlflow.start_run():
    print(timed(lambda step: mlflow.log_metric("loss", 0.5, step=step), 200))
"""
)
SIDES = {
    "TensorBoard EventFileWriter": TENSORBOARD,
    "W&B offline": WANDB,
    "MLflow log_metric, SQLite": MLFLOW,
}


def measure(code: str, rounds: int) -> list[float]:
    found = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            said = subprocess.run(
                [sys.executable, "-c", code, folder], capture_output=True, text=True, check=True
            ).stdout
        found.append([float(word) for word in said.split()[-2:] if word.replace(".", "").isdigit()])
    return [statistics.median(values) for values in zip(*found, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    step_us, record_us = measure(OWN, rounds)
    at_rate = step_us + 4 * record_us / 1000
    print(f"{'mlstack, a step that keeps no record':<40} {step_us:9.2f} us")
    print(f"{'mlstack, a record (4 a second at most)':<40} {record_us:9.2f} us")
    print(f"{'mlstack, a step at 1,000 steps/s':<40} {at_rate:9.2f} us")
    for name, code in SIDES.items():
        (each_us,) = measure(code, rounds)
        print(f"{name:<40} {each_us:9.2f} us   {each_us / at_rate:8.0f}x")


if __name__ == "__main__":
    main()
