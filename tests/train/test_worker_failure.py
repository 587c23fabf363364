"""What is said of an exception that says nothing of what to do."""

import builtins
import io
import os
import subprocess
from bdb import BdbQuit
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from mlstack.errors import DataError
from mlstack.records.run import Failed, append_event, read_events
from mlstack.train.worker.failure import hint_of, tell_failure


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(30), nn.Linear(30, 4)], ids=["norm", "linear"])
def test_a_layer_of_another_width_is_told_which_setting_says_it(layer: nn.Module) -> None:
    with pytest.raises(RuntimeError) as raised:
        layer(torch.zeros(64, 11))

    said = hint_of(raised.value)

    assert "takes 30 values was given 11" in said
    assert "model.args" in said


def test_a_parameter_that_nothing_uses_is_told_without_what_cannot_be_set_here() -> None:
    error = RuntimeError(
        "It looks like your LightningModule has parameters that were not used in producing the "
        "loss returned by training_step. (...) set strategy='ddp_find_unused_parameters_true'"
    )

    assert "requires_grad = False" in hint_of(error)


class Idle(LightningModule):
    """Learns nothing, by no optimizer."""

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        return None


class Vector(Idle):
    """Logs several numbers at once."""

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("each", torch.zeros(3))

    def configure_optimizers(self) -> None:
        return None


def fit(model: LightningModule) -> None:
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "logger": False}
    Trainer(accelerator="cpu", **quiet).fit(model, DataLoader(torch.zeros(2)))


def leave_the_debugger() -> None:
    raise BdbQuit


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (lambda: nn.Embedding(300, 2)(torch.tensor([300])), "same in data.args and model.args"),
        (lambda: F.cross_entropy(torch.zeros(1, 5), torch.tensor([7])), "class 7 needs an output"),
        (lambda: fit(Vector()), "value.mean()"),
        (lambda: fit(Idle()), "configure_optimizers"),
        (lambda: builtins.input(), "no terminal"),
        (leave_the_debugger, "no terminal"),
    ],
    ids=["tokens", "classes", "log", "optimizer", "input", "breakpoint"],
)
def test_what_libraries_say_of_common_slips_gets_a_hint(
    broken: Callable[[], object], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(Exception) as raised:
        broken()

    assert words in hint_of(raised.value)


def test_nothing_is_made_up_about_another_exception() -> None:
    assert hint_of(RuntimeError("something else")) == ""


def test_a_failure_is_told_though_an_earlier_attempt_had_failed_too(tmp_path: Path) -> None:
    append_event(tmp_path, Failed(run="r", at=1.0, rank=0, problem="the first attempt"))

    tell_failure(tmp_path, "r", 1, DataError("the second"), tmp_path)
    tell_failure(tmp_path, "r", 0, DataError("its echo"), tmp_path)

    told = [one for one in read_events(tmp_path) if isinstance(one, Failed)]
    assert [one.problem for one in told] == ["the first attempt", "the second"]
    assert told[1].category == "DataError"


def test_a_torch_that_cannot_be_loaded_is_the_fault_of_the_machine(
    plan: Callable[..., Path], start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    (tmp_path / "torch").mkdir()
    broken = "raise ImportError('libtorch_cpu.so: cannot open shared object file')"
    (tmp_path / "torch" / "__init__.py").write_text(broken)
    folder = plan("unloadable")
    here = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])

    start(folder, PYTHONPATH=here).communicate(timeout=60)

    (failed,) = [one for one in read_events(folder) if isinstance(one, Failed)]
    assert failed.category == "MachineError" and "libtorch_cpu.so" in failed.problem
    assert failed.hint == "type `mlstack doctor`"
