"""Texts that are shorter than the longest one are answered without what fills them up."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from mlstack.errors import StepError
from mlstack.export.handover import Part
from mlstack.export.worker import graph, parity
from mlstack.export.worker.arrays import ArrayFile
from mlstack.export.worker.session import Session

pytestmark = pytest.mark.filterwarnings("ignore:`isinstance:FutureWarning")  # torch's own
LENGTH, CLASSES = 24, 3


class Masked(nn.Module):
    """Takes the strongest token; the filler is none."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        seen = self.embed(tokens).masked_fill((tokens == 0).unsqueeze(2), -10)
        return seen.amax(dim=1)


class Mean(Masked):
    """Forgets that the filler says nothing."""

    def forward(self, tokens: Tensor) -> Tensor:
        return self.embed(tokens).mean(dim=1)


class Flat(nn.Module):
    """Has a weight for each place, so it knows one length."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = nn.Linear(LENGTH, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.answer(tokens.float())


def texts() -> np.ndarray:
    random = np.random.default_rng(5)
    tokens = random.integers(1, 50, (40, LENGTH)).astype(np.int32)
    for row, count in zip(tokens, random.integers(0, LENGTH + 1, 40), strict=True):
        row[count:] = 0
    return tokens


def exported(module: nn.Module, folder: Path) -> tuple[bool, Session, Part]:
    tokens = texts()
    torch.manual_seed(1)
    net = module.eval()
    model = graph.to_onnx(net, torch.from_numpy(tokens[:2]), "input", any_length=True)
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    kept = {"inputs": tokens, "logits": net(torch.from_numpy(tokens)).detach().numpy()}
    stored = {}
    for name, array in kept.items():
        with ArrayFile(folder / f"{name}.raw") as file:
            file.append(array)
            stored[name] = file.stored()
    part = Part(inputs=stored["inputs"], targets=stored["logits"], logits=stored["logits"])
    return graph.takes_any_length(model), Session(folder / "net.onnx"), part


def change(session: Session, part: Part) -> float:
    tokens = texts()
    whole = {size: session.answers(tokens, size)[1] for size in (1, parity.BATCH)}
    steps = parity.shortened(session, part, whole)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def test_a_net_that_masks_the_filler_may_do_without_it(tmp_path: Path) -> None:
    takes_any, session, part = exported(Masked(), tmp_path)

    assert takes_any
    assert change(session, part) < 1e-6


def test_a_net_that_counts_the_filler_is_found_out(tmp_path: Path) -> None:
    takes_any, session, part = exported(Mean(), tmp_path)

    assert takes_any
    assert change(session, part) > 1e-3


def test_a_net_of_one_length_keeps_it(tmp_path: Path) -> None:
    takes_any, session, part = exported(Flat(), tmp_path)

    assert not takes_any
    assert change(session, part) == parity.HUGE
    assert session.answer(texts())[0].shape == (40, CLASSES)


def test_what_cannot_be_traced_with_any_length_is_traced_with_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    traced = graph._traced

    def refusing(module: nn.Module, example: Tensor, name: str, free: dict) -> onnx.ModelProto:
        if 1 in free:
            raise StepError("the model cannot be turned into a graph: GuardError: tokens")
        return traced(module, example, name, free)

    monkeypatch.setattr(graph, "_traced", refusing)
    takes_any, session, _ = exported(Masked(), tmp_path)

    assert not takes_any
    assert session.answer(texts())[0].shape == (40, CLASSES)
    assert "one length only" in capfd.readouterr().err


def test_work_is_counted_for_the_longest_text() -> None:
    model = graph.to_onnx(
        nn.Sequential(nn.Embedding(50, 8), nn.Linear(8, 4)).eval(),
        torch.zeros((2, LENGTH), dtype=torch.int32),
        "input",
        any_length=True,
    )

    assert graph.work(model, [LENGTH]) == {"MatMul": LENGTH * 8 * 4}
