"""Real runs of the worker: one rank and two, broken off and gone on with."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.compute as pc
import pytest
import torch
from one_rank import assert_same, epochs_of, last, run

from mlstack.errors import DataError, StepError
from mlstack.records import base
from mlstack.records.dataset import EXAMPLES, DatasetVersion, read_examples, write_examples
from mlstack.records.run import (
    BEST,
    CHECKPOINTS,
    LAST,
    SPEC,
    CheckpointSaved,
    EpochEnded,
    Failed,
    Finished,
    Reading,
    RunSpec,
    Started,
    Stepped,
    Stopped,
    read_events,
)
from mlstack.train.worker.build import build_data, build_model
from mlstack.train.worker.ranks import Job, Rank

Plan = Callable[..., Path]
Start = Callable[..., "subprocess.Popen[str]"]

pytestmark = pytest.mark.filterwarnings("ignore")

OWN_CODE = """
import os, signal, torch
from my_project.data import Images
from my_project.model import Net
from torchmetrics import MeanMetric, MetricCollection, SumMetric

class Noisy(torch.utils.data.Dataset):
    def __init__(self, inner):
        self.inner = inner
    def __len__(self):
        return len(self.inner)
    def __getitem__(self, index):
        image, target = self.inner[index]
        return image.roll(int(torch.randint(0, 3, ())), 1), target

class Augmented(Images):
    def setup(self, stage=None):
        super().setup(stage)
        if not isinstance(self.parts["train"], Noisy):
            self.parts["train"] = Noisy(self.parts["train"])

class Stubborn(Net):
    def __init__(self, stop_at=-1, **rest):
        super().__init__(**rest)
        self.stop_at = stop_at
    def on_test_start(self):
        if self.stop_at == -2:
            os.kill(os.getpid(), signal.SIGTERM)
    def on_train_batch_start(self, batch, batch_idx):
        if self.global_step == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", patience=0)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": plateau, "monitor": "val/loss"},
        }

class Alone(Net):
    def log_dict(self, metrics, sync_dist=False, **given):
        super().log_dict(metrics, **given)
    def validation_step(self, batch, batch_idx):
        if self.global_rank == 0:
            self.log("val/mine", 1.0)
        super().validation_step(batch, batch_idx)
        self.log("val/largest", float(self.global_rank), reduce_fx="max")
    def on_validation_epoch_end(self):
        self.log("val/rank", float(self.global_rank))

class NoBatch(Images):
    def train_dataloader(self):
        return torch.utils.data.DataLoader([1, 2], batch_size=4, drop_last=True)

class Mute(Net):
    def training_step(self, batch, batch_idx):
        super().training_step(batch, batch_idx)

class Unplain(Net):
    def on_save_checkpoint(self, checkpoint):
        checkpoint["mine"] = torch.zeros(1).numpy()

class Chatty(Stubborn):
    def __init__(self, best=1, **rest):
        super().__init__(**rest)
        self.best = best
        self.seen = SumMetric()
        self.both = MetricCollection({"both/a": MeanMetric(), "both/b": MeanMetric()})
    def on_train_epoch_start(self):
        self.log("train/epoch", float(self.current_epoch))
    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.log("train/batches", 1.0, reduce_fx="sum", on_step=False, on_epoch=True)
        self.log("train/highest", float(batch_idx), reduce_fx=max, on_step=True, on_epoch=True)
        self.log("train/lowest", float(batch_idx), reduce_fx="min", on_step=False, on_epoch=True)
        if batch_idx == 0:
            self.log("train/once", loss, on_step=False, on_epoch=True)
        self.seen.update(float(len(batch[1])))
        self.log("train/seen", self.seen, on_step=False, on_epoch=True)
        self.both.update(loss.detach())
        return loss
    def on_train_batch_end(self, outputs, batch, batch_idx):
        if batch_idx % 2:
            self.log("train/odd", float(batch_idx), on_epoch=True)
    def on_train_epoch_end(self):
        self.log_dict(self.both.compute())
        self.both.reset()
    def validation_step(self, batch, batch_idx):
        self.log("val/chosen", float(self.current_epoch + 1 == self.best))
        return super().validation_step(batch, batch_idx)
"""


@pytest.fixture(scope="module")
def own_code(plan: Plan) -> tuple[str, ...]:
    """Settings of a model and data that are hard to go on with: random, with a scheduler."""
    root = Path(base.read(plan("where") / SPEC, RunSpec).root)
    (root / "own_code.py").write_text(OWN_CODE)
    return (
        "data.module=own_code:Augmented",
        "model.class=own_code:Stubborn",
        "train.batch_size=16",
        "train.epochs=4",
    )


def test_a_run_reports_and_leaves_plain_checkpoints(plan: Plan, start: Start) -> None:
    folder = plan("one")

    process = start(folder)
    output, _ = process.communicate(timeout=120)

    assert (process.returncode, output) == (0, "")
    events = read_events(folder)
    (started,) = [one for one in events if isinstance(one, Started)]
    assert isinstance(events[0], Reading | Started) and isinstance(events[-1], Finished)
    assert started.parameters > 1000 and started.device == "cpu"
    assert [e.epoch for e in events if isinstance(e, EpochEnded)] == [1, 2]
    assert set(events[-1].metrics) == {f"{p}/{m}" for p in PARTS for m in ("loss", "acc")}
    assert any(isinstance(e, Stepped) and e.metrics["loss"] > 0 for e in events)
    assert (folder / "heartbeat-0").is_file()
    saved = [e for e in events if isinstance(e, CheckpointSaved)]
    assert {e.file for e in saved} == {"checkpoints/last.ckpt", "checkpoints/best.ckpt"}
    best = torch.load(folder / CHECKPOINTS / BEST, weights_only=True)
    assert best["hyper_parameters"].items() >= {"width": 16, "lr": 3e-3, "num_classes": 10}.items()
    assert not list((folder / CHECKPOINTS).glob(".*"))


def test_two_ranks_train_one_model_and_measure_it_exactly(plan: Plan, start: Start) -> None:
    folder = plan("two", "train.ranks=2")
    ranks = [start(folder, **elastic(number, 2)) for number in range(2)]

    outputs = [process.communicate(timeout=120)[0] for process in ranks]

    assert [process.returncode for process in ranks] == [0, 0], outputs
    finished = last(folder, Finished)
    assert set(finished.metrics) == {f"{p}/{m}" for p in PARTS for m in ("loss", "acc")}
    loss, accuracy = measure(folder)  # rank 0's weights, all of val: rank 1 had the same ones
    assert finished.metrics["val/loss"] == pytest.approx(loss, rel=1e-5)
    assert finished.metrics["val/acc"] == pytest.approx(accuracy, rel=1e-5)


def test_two_ranks_measure_as_one_what_is_logged_without_sync_dist(
    plan: Plan, start: Start, own_code: tuple[str, ...]
) -> None:
    folder = plan("alone", "train.ranks=2", "model.class=own_code:Alone", "train.epochs=2")
    ranks = [start(folder, **elastic(number, 2)) for number in range(2)]

    outputs = [process.communicate(timeout=120)[0] for process in ranks]

    assert [process.returncode for process in ranks] == [0, 0], outputs
    metrics = last(folder, Finished).metrics
    loss, accuracy = measure(folder)
    assert metrics["val/loss"] == pytest.approx(loss, rel=1e-5)
    assert metrics["val/acc"] == pytest.approx(accuracy, rel=1e-5)
    assert (metrics["val/largest"], metrics["val/rank"], metrics["val/mine"]) == (1, 0.5, 1)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_ranks_measure_an_odd_number_of_examples_exactly(
    plan: Plan, start: Start, strategy: str
) -> None:
    folder = plan(f"odd-{strategy}", "train.ranks=2", f"train.strategy={strategy}")
    odd = read_examples(folder / EXAMPLES)
    for part in ("val", "test"):
        places = pc.indices_nonzero(pc.equal(odd["split"], part)).to_pylist()
        kept = [n for n in range(len(odd)) if n != places[0]]
        odd = odd.take(kept if len(places) % 2 == 0 else list(range(len(odd))))
    write_examples(folder / EXAMPLES, odd)
    ranks = [start(folder, **elastic(number, 2)) for number in range(2)]

    outputs = [process.communicate(timeout=120)[0] for process in ranks]

    assert [process.returncode for process in ranks] == [0, 0], outputs
    assert odd["split"].to_pylist().count("val") % 2 == 1
    loss, accuracy = measure(folder)
    metrics = last(folder, Finished).metrics
    assert metrics["val/loss"] == pytest.approx(loss, rel=1e-5)
    assert metrics["val/acc"] == pytest.approx(accuracy, rel=1e-5)
    right = metrics["test/acc"] * odd["split"].to_pylist().count("test")
    assert right == pytest.approx(round(right), abs=1e-4)


@pytest.mark.parametrize(
    ("stop_at", "stopped_at"),
    [(13, 14), (19, 20), (0, 1), (33, 34)],
    ids=["middle", "epoch-end", "first", "last-epoch"],
)
def test_a_stopped_run_goes_on_to_the_very_same_weights(
    plan: Plan, own_code: tuple[str, ...], unbroken: Path, stop_at: int, stopped_at: int
) -> None:
    folder = plan(f"broken-{stop_at}", *own_code, f"model.args.stop_at={stop_at}")

    run(folder)
    stopped = last(folder, Stopped)
    run(folder, resume=True)

    assert (stopped.step, stopped.reason) == (stopped_at, "SIGTERM")
    assert [e.attempt for e in read_events(folder) if isinstance(e, Started)] == [1, 2]
    assert_same(folder, unbroken)
    mine, theirs = last(folder, Finished), last(unbroken, Finished)
    assert (mine.metrics, mine.epoch, mine.step) == (theirs.metrics, theirs.epoch, theirs.step)
    assert epochs_of(folder) == epochs_of(unbroken)


def test_a_run_whose_test_was_broken_off_trains_no_further(
    plan: Plan, own_code: tuple[str, ...]
) -> None:
    sets = (*own_code, "train.epochs=8", "train.patience=1", "train.mode=max")
    folder = plan("untested", *sets, "train.monitor=val/loss", "model.args.stop_at=-2")
    run(folder)
    stopped, epochs = last(folder, Stopped), epochs_of(folder)
    spec = base.read(folder / SPEC, RunSpec)
    spec.config["model"]["args"]["stop_at"] = -1
    base.write(folder / SPEC, spec)

    run(folder, resume=True)

    finished = last(folder, Finished)
    assert (finished.step, finished.epoch) == (stopped.step, len(epochs))
    assert epochs_of(folder) == epochs and len(epochs) < 8
    assert "test/acc" in finished.metrics


@pytest.mark.parametrize(("best", "stop_at"), [(2, 12), (3, 26)], ids=["best", "last"])
def test_the_metrics_of_a_broken_off_epoch_count_all_its_batches(
    plan: Plan, own_code: tuple[str, ...], best: int, stop_at: int
) -> None:
    sets = (*own_code, "model.class=own_code:Chatty", f"model.args.best={best}", "train.epochs=3")
    sets = (*sets, "train.monitor=val/chosen", "train.mode=max")
    whole = plan(f"whole-{best}", *sets)
    broken = plan(f"chatty-{best}", *sets, f"model.args.stop_at={stop_at}")

    run(whole)
    run(broken)
    stopped = last(broken, Stopped)
    run(broken, resume=True)

    assert stopped.step == stop_at + 1
    found = last(broken, Finished).metrics
    counted = {"batches": 10, "highest": 9, "lowest": 0, "seen": 160, "odd": 5, "epoch": best - 1}
    assert counted.items() <= {n.removeprefix("train/"): v for n, v in found.items()}.items()
    assert found["both/a"] == found["both/b"] == pytest.approx(found["train/loss"])
    assert found == last(whole, Finished).metrics
    assert epochs_of(broken) == epochs_of(whole)


def test_a_signal_from_outside_is_obeyed_and_leaves_a_whole_checkpoint(
    plan: Plan, start: Start
) -> None:
    folder = plan("outside", "train.epochs=10000")
    process = start(folder)
    deadline = time.monotonic() + 60
    while not any(isinstance(e, Stepped) for e in read_events(folder)):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)

    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)

    assert (process.returncode, output) == (0, "")
    stopped = last(folder, Stopped)
    assert torch.load(folder / CHECKPOINTS / LAST, weights_only=True)["global_step"] == stopped.step


def test_a_corrupt_image_is_a_data_error_that_names_the_file(plan: Plan, start: Start) -> None:
    folder = plan("corrupt")
    root = Path(base.read(folder / SPEC, RunSpec).root)
    broken = root / "images" / "0007.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:40])

    try:
        process = start(folder)
        process.communicate(timeout=60)
    finally:
        broken.write_bytes(whole)

    failed = last(folder, Failed)
    assert process.returncode == 1
    assert failed.category == "DataError" and str(broken) in failed.problem and failed.hint


@pytest.mark.parametrize(
    ("sets", "category", "problem"),
    [
        (("train.monitor=val/accuracy",), "ConfigError", "logs no `val/accuracy`"),
        (("train.trainer_args={'max_epochs': 3}",), "ConfigError", "decided by train.epochs"),
        (
            ("train.trainer_args={'gradient_clip': 1}",),
            "ConfigError",
            "no argument `gradient_clip`",
        ),
        (("model.args.lr=1e30",), "StepError", "not a number"),
        (("model.class=own_code:Mute",), "StepError", "gave no loss in a whole epoch"),
        (("data.module=own_code:NoBatch",), "DataError", "gives no batch"),
        (("model.args.widht=3",), "ConfigError", "takes no argument `widht`"),
        (
            ("model.class=own_code:Unplain",),
            "ConfigError",
            "cannot be read again: it holds a `numpy._core.multiarray._reconstruct`",
        ),
    ],
)
def test_what_goes_wrong_is_said_in_one_line(
    plan: Plan,
    own_code: tuple[str, ...],
    tmp_path: Path,
    sets: tuple[str, ...],
    category: str,
    problem: str,
) -> None:
    folder = plan(f"wrong-{tmp_path.name}", *sets)

    with pytest.raises(Exception) as raised:
        run(folder)

    assert type(raised.value).__name__ == category
    assert problem in str(raised.value)


RARE = """
from my_project.data import Images
from torch.utils.data import DataLoader

class Rare(Images):
    place = -1
    def setup(self, stage=None):
        super().setup(stage)
        for part in self.parts.values():
            part.tensors = (part.tensors[0].float(), part.tensors[1])
        self.parts["train"].tensors[0][self.place] = float("nan")

class OfTheOther(Rare):
    place = 17  # in the second batch of the second of two ranks
    def train_dataloader(self):
        return DataLoader(self.parts["train"], self.batch_size)
"""


def test_the_batch_that_holds_nan_is_named(plan: Plan) -> None:
    folder = plan("rare", "data.module=rare:Rare")
    (Path(base.read(folder / SPEC, RunSpec).root) / "rare.py").write_text(RARE)

    with pytest.raises(StepError) as raised:
        run(folder)

    assert " of train holds NaN or infinity" in raised.value.problem
    assert raised.value.hint == "clean the data"


def test_the_batch_of_another_rank_that_holds_nan_is_named(plan: Plan, start: Start) -> None:
    sets = ("data.module=rare:OfTheOther", "train.batch_size=16", "train.ranks=2")
    folder = plan("of-the-other", *sets)
    (Path(base.read(folder / SPEC, RunSpec).root) / "rare.py").write_text(RARE)
    first, _ = (start(folder, **elastic(number, 2)) for number in range(2))

    output, _ = first.communicate(timeout=120)
    failed = last(folder, Failed)

    assert first.returncode == 1, output
    assert "batch 2 of train holds NaN or infinity" in failed.problem
    assert failed.hint == "clean the data"


@pytest.mark.parametrize(
    ("argument", "epochs", "step"),
    [("max_steps: 25", [10, 20, 25], 25), ("min_steps: 5", None, 40)],
)
def test_a_limit_of_steps_ends_a_run_there_and_not_before(
    plan: Plan, own_code: tuple[str, ...], argument: str, epochs: list[int] | None, step: int
) -> None:
    limited = f"train.trainer_args={{{argument}}}"
    whole = plan(f"whole-{step}", *own_code, limited)
    broken = plan(f"broken-{step}", *own_code, limited, "model.args.stop_at=13")

    run(whole)
    run(broken)
    run(broken, resume=True)

    ended = [e.step for e in read_events(whole) if isinstance(e, EpochEnded)]
    assert ended == (epochs or [10, 20, 30, 40])
    assert last(whole, Finished).step == step
    assert_same(broken, whole)


def test_an_epoch_without_validation_is_not_judged_by_an_earlier_one(plan: Plan) -> None:
    every_second = ("train.trainer_args={check_val_every_n_epoch: 2}", "train.patience=1")
    folder = plan("every-second", *every_second, "train.epochs=4")

    run(folder)

    assert [("val/loss" in metrics) for _, metrics, _ in epochs_of(folder)] == [0, 1, 0, 1]


def test_without_a_share_for_test_nothing_is_tested(plan: Plan) -> None:
    split = {"train": 160, "val": 20, "test": 0}
    version = DatasetVersion(name="digits", source="data/digits", md5="0.dir", split=split)
    folder = plan("no-test", dataset=version)
    table = read_examples(folder / EXAMPLES)
    write_examples(folder / EXAMPLES, table.filter(pc.not_equal(table["split"], "test")))

    run(folder)

    metrics = last(folder, Finished).metrics
    assert "val/acc" in metrics and not [name for name in metrics if name.startswith("test/")]


def test_patience_ends_a_run_that_gets_no_better(plan: Plan) -> None:
    folder = plan("patience", "train.epochs=50", "train.patience=2", "model.args.lr=1e-12")

    run(folder)

    assert last(folder, Finished).epoch < 50


def test_a_damaged_checkpoint_is_not_gone_on_with(plan: Plan) -> None:
    folder = plan("damaged")
    (folder / CHECKPOINTS).mkdir()
    (folder / CHECKPOINTS / LAST).write_bytes(b"PK half of it")

    with pytest.raises(Exception, match=r"last\.ckpt` is not a whole checkpoint"):
        run(folder, resume=True)


@pytest.mark.parametrize("content", [None, b"damaged"])
def test_a_run_without_its_best_weights_is_not_gone_on_with(
    plan: Plan, own_code: tuple[str, ...], content: bytes | None
) -> None:
    folder = plan(f"best-{content!r}", *own_code, "model.args.stop_at=13")
    run(folder)
    best = folder / CHECKPOINTS / BEST
    best.unlink() if content is None else best.write_bytes(content)

    with pytest.raises(DataError, match=r"best\.ckpt`") as raised:
        run(folder, resume=True)

    assert "--from-run" in raised.value.hint and "weights_only" not in raised.value.problem
    assert isinstance(read_events(folder)[-1], Stopped), "nothing was trained"


def test_older_checkpoints_are_kept_and_gone_on_with_when_the_last_is_damaged(
    plan: Plan, own_code: tuple[str, ...], unbroken: Path
) -> None:
    folder = plan("older", *own_code, "train.keep_last=2", "model.args.stop_at=33")
    run(folder)
    kept = sorted(path.name for path in (folder / CHECKPOINTS).glob("save-*.ckpt"))
    whole = (folder / CHECKPOINTS / LAST).read_bytes()
    (folder / CHECKPOINTS / LAST).unlink()  # else the second name is damaged, too
    (folder / CHECKPOINTS / LAST).write_bytes(whole[: len(whole) // 2])

    run(folder, resume=True)

    assert len(kept) == 2
    assert [e.step for e in read_events(folder) if isinstance(e, Started)][1] > 0
    assert_same(folder, unbroken)
    assert len(list((folder / CHECKPOINTS).glob("save-*.ckpt"))) == 2


PARTS = ("train", "val", "test")


@pytest.fixture(scope="module")
def unbroken(plan: Plan, own_code: tuple[str, ...]) -> Path:
    """The run that the broken ones must equal."""
    folder = plan("unbroken", *own_code)
    run(folder)
    return folder


def measure(folder: Path) -> tuple[float, float]:
    """Measure the best weights on the whole of val, with one rank and no Trainer."""
    spec = base.read(folder / SPEC, RunSpec)
    from mlstack.config.schema import Config

    alone = Job(folder, spec, Config.model_validate(spec.config), Rank())
    model, data = build_model(alone), build_data(alone)
    model.load_state_dict(torch.load(folder / CHECKPOINTS / BEST, weights_only=True)["state_dict"])
    model.eval()
    data.setup()
    images, targets = data.parts["val"].tensors
    with torch.no_grad():
        logits = model(images)
    loss = torch.nn.functional.cross_entropy(logits, targets)
    return float(loss), float((logits.argmax(1) == targets).float().mean())


def elastic(number: int, count: int) -> dict[str, str]:
    """Give torchelastic's variables for one rank."""
    return {
        "RANK": str(number),
        "LOCAL_RANK": str(number),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(20000 + os.getpid() % 20000),
        "TORCHELASTIC_RUN_ID": "test",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
    }
