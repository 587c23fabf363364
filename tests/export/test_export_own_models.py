"""Networks as people write them: packed as they answer, or refused in words that help."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from export_runs import mlstack, packages
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from mlstack.errors import ConfigError, GateError, StepError
from mlstack.export.handover import Part
from mlstack.export.worker.arrays import opened
from mlstack.export.worker.construction import Recorder, in_full_precision
from mlstack.export.worker.graph import to_onnx

# torch's own, of its parts that its exporter calls
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
ROWS = torch.arange(12.0).reshape(4, 3) / 7


class Linear(nn.Module):
    """Three numbers to three classes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(3, 3)

    def forward(self, rows: Tensor) -> Tensor:
        return self.head(rows)


class Softmax(Linear):
    def forward(self, rows: Tensor) -> Tensor:
        return self.head(rows).softmax(dim=1)


class Sigmoid(Linear):
    """In halves behind it, so that a cast to FP32 comes between."""

    def forward(self, rows: Tensor) -> Tensor:
        return self.head(rows).sigmoid().half()


class Gated(Linear):
    """Its logits are within 0 and 1, too, and a sigmoid is in it."""

    def forward(self, rows: Tensor) -> Tensor:
        return self.head(rows).sigmoid() * 0.5


class LogSoftmax(Linear):
    def forward(self, rows: Tensor) -> Tensor:
        return self.head(rows).log_softmax(dim=1)


class Pair(Linear):
    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(rows), rows


class Double(nn.Module):
    """A part of it computes in FP64, and casts for that; another is kept in halves."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(3, 3).bfloat16()
        self.head = nn.Linear(3, 3).double()

    def forward(self, rows: Tensor) -> Tensor:
        return self.head(self.body(rows.to(self.body.weight.dtype)).double())


class Halves(nn.Module):
    """A layer is in halves, and so is what it is given."""

    def __init__(self, half: torch.dtype) -> None:
        super().__init__()
        self.half = half
        self.head = nn.Linear(3, 3).to(half)

    def forward(self, rows: Tensor) -> Tensor:
        return self.head(rows.to(self.half))  # whatever the layer has become


class Scripted(Linear):
    def __init__(self) -> None:
        super().__init__()
        self.body = torch.jit.script(nn.Sequential(nn.Linear(3, 3)))

    def forward(self, rows: Tensor) -> Tensor:
        return self.head(self.body(rows))


class Decides(Linear):
    def forward(self, rows: Tensor) -> Tensor:
        return self.head(rows) if rows.mean() > 0 else self.head(-rows)


class Flat(Linear):
    """Attention over (batch, length, width): torch does it, its translation to ONNX does not."""

    def forward(self, rows: Tensor) -> Tensor:
        tokens = rows[:, None].expand(-1, 2, -1)
        return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens, is_causal=True)[
            :, 0
        ]


def recorded(network: nn.Module, folder: Path) -> Part:
    loader = DataLoader(TensorDataset(ROWS, torch.zeros(len(ROWS))), batch_size=2)
    recording = Recorder(folder, network.eval(), 3).part("val", loader)
    while True:
        try:
            next(recording)
        except StopIteration as end:
            return end.value


def test_a_forward_that_ends_in_softmax_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="forward gives probabilities") as refused:
        recorded(Softmax(), tmp_path)

    assert "leave softmax out of forward" in refused.value.hint


def test_a_forward_that_ends_in_sigmoid_is_refused() -> None:
    with pytest.raises(ConfigError, match="forward ends in sigmoid") as refused:
        to_onnx(Sigmoid(), ROWS, "input")

    assert "leave sigmoid out of forward" in refused.value.hint


@pytest.mark.parametrize(
    "network",
    [Linear(), LogSoftmax(), Gated(), in_full_precision(Double())],
    ids=["logits", "log_softmax", "gated", "FP64 and halves"],
)
def test_the_probabilities_are_those_of_the_network(network: nn.Module, tmp_path: Path) -> None:
    part = recorded(network, tmp_path)
    graph = to_onnx(network, ROWS, "input").SerializeToString()

    _, probabilities = onnxruntime.InferenceSession(graph).run(None, {"input": ROWS.numpy()})

    expected = torch.softmax(torch.from_numpy(np.array(opened(part.logits))), dim=1)
    assert np.allclose(probabilities, expected, atol=1e-6)


def test_a_forward_with_more_than_logits_is_told_what_to_return(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="forward gives a tuple; it must give logits alone"):
        recorded(Pair(), tmp_path)


def test_one_number_for_two_classes_is_told_what_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"forward gives \(2, 1\) for a batch of 2; .*\(2, 3\)"):
        recorded(nn.Linear(3, 1), tmp_path)


def test_a_forward_that_decides_by_values_is_named_with_its_line() -> None:
    with pytest.raises(StepError) as refused:
        to_onnx(Decides(), ROWS, "input")

    assert "must not decide by the values" in refused.value.hint
    line = (
        Path(__file__)
        .read_text()
        .splitlines()
        .index("        return self.head(rows) if rows.mean() > 0 else self.head(-rows)")
    )
    assert refused.value.where == f"{Path(__file__).name}:{line + 1}"


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_a_forward_that_casts_to_halves_is_told_what_to_cast_to(
    tmp_path: Path, half: torch.dtype
) -> None:
    network = in_full_precision(Halves(half))

    with pytest.raises(ConfigError, match=f"forward casts to {str(half)[6:]};") as refused:
        recorded(network, tmp_path)

    assert "x.to(self.LAYER.weight.dtype)" in refused.value.hint
    assert refused.value.where.startswith(f"{Path(__file__).name}:")


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_a_part_in_torchscript_is_named() -> None:
    with pytest.raises(StepError, match="`body` is TorchScript") as refused:
        to_onnx(Scripted(), ROWS, "input")

    assert "leave torch.jit.script out" in refused.value.hint
    assert refused.value.where.startswith(f"{Path(__file__).name}:")


def test_an_operation_that_onnx_lacks_is_named() -> None:
    with pytest.raises(StepError) as refused:
        to_onnx(Flat(), ROWS, "input")

    assert "`scaled_dot_product_attention`" in refused.value.hint
    assert "values" not in refused.value.hint


class Noisy(Linear):
    def forward(self, rows: Tensor) -> Tensor:
        return self.head(rows) + torch.rand(len(rows), 1)


class Dropping(Linear):
    def forward(self, rows: Tensor) -> Tensor:
        return nn.functional.dropout(self.head(rows))


@pytest.mark.parametrize(
    ("network", "hint"), [(Noisy(), "if self.training"), (Dropping(), "nn.Dropout")]
)
def test_a_forward_that_answers_at_random_is_told_what_to_change(
    network: nn.Module, hint: str
) -> None:
    with pytest.raises(GateError, match="at random") as refused:
        to_onnx(network, ROWS, "input")

    assert hint in refused.value.hint


@pytest.mark.slow
def test_a_graph_that_onnxruntime_cannot_load_is_told_what_to_change(trained: Path) -> None:
    model = trained / "my_project/model.py"
    forward = "return self.body((x - 0.3) / 0.35)"
    low = "with torch.autocast('cpu', torch.bfloat16):\n            " + forward
    model.write_text(model.read_text().replace(forward, low))

    done = mlstack(trained, "export", "--set", "gates={}", "--json")

    assert done.code == 4
    assert "cannot load the graph" in done.json["error"]["problem"]
    assert "without autocast" in done.json["error"]["hint"]
    assert packages(trained) == []


@pytest.mark.slow
def test_an_error_of_forward_names_its_line_and_the_log(trained: Path) -> None:
    model = trained / "my_project/model.py"
    text = model.read_text().replace(
        "return self.body((x", "assert len(x) < 1, 'too many'\n        return self.body((x"
    )
    model.write_text(text)
    line = 1 + next(i for i, one in enumerate(text.splitlines()) if "too many" in one)

    done = mlstack(trained, "export", "--json")

    error = done.json["error"]
    assert done.code == 1
    assert error["problem"] == f"my_project/model.py:{line}: AssertionError: too many"
    assert error["hint"].startswith("see ")
    assert "Traceback" in Path(error["hint"].removeprefix("see ")).read_text()
