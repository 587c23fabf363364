"""Checkpoints that may be anybody's: nothing in them runs, nothing unpacks beyond its size."""

import argparse
import pickle
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from mlstack.errors import DataError
from mlstack.export.worker.weights import load_weights

WEIGHTS = {"layer.weight": torch.ones(4, 4)}


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return open, (str(self.path), "w")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "best.ckpt"
    torch.save({"state_dict": WEIGHTS, "hyper_parameters": {"width": 16}}, path)
    return path


def test_plain_weights_are_read(checkpoint: Path) -> None:
    assert load_weights(str(checkpoint)).keys() == WEIGHTS.keys()


def test_a_pickle_in_a_checkpoint_is_not_run(checkpoint: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": WEIGHTS, "extra": Payload(tmp_path / "owned")}, checkpoint)

    with pytest.raises(DataError, match="which is not loaded"):
        load_weights(str(checkpoint))

    assert not (tmp_path / "owned").exists()


def test_a_bare_pickle_is_not_even_opened(checkpoint: Path, tmp_path: Path) -> None:
    checkpoint.write_bytes(pickle.dumps(Payload(tmp_path / "owned")))

    with pytest.raises(DataError, match="damaged"):
        load_weights(str(checkpoint))

    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "value",
    [Path("data"), argparse.Namespace(lr=1), partial(int, "3"), np.float64(0.1)],
    ids=["path", "namespace", "partial", "numpy scalar"],
)
def test_hyper_parameters_that_are_not_plain_are_named(checkpoint: Path, value: object) -> None:
    torch.save({"state_dict": WEIGHTS, "hyper_parameters": {"given": value}}, checkpoint)

    with pytest.raises(DataError) as caught:
        load_weights(str(checkpoint))

    assert "which is not loaded" in caught.value.problem
    assert "keep hyper-parameters plain" in caught.value.hint


def test_a_deflated_checkpoint_is_not_unpacked(checkpoint: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": {"w": torch.zeros(8 << 20)}}, checkpoint)
    bomb = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(checkpoint) as whole, zipfile.ZipFile(bomb, "w") as packed:
        for entry in whole.infolist():
            content = whole.read(entry)
            packed.writestr(entry.filename, content, zipfile.ZIP_DEFLATED, compresslevel=9)

    assert bomb.stat().st_size < 100_000
    with pytest.raises(DataError, match="would unpack to 33,55"):
        load_weights(str(bomb))


def test_an_archive_with_a_name_twice_is_refused(checkpoint: Path) -> None:
    with zipfile.ZipFile(checkpoint, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(archive.infolist()[0].filename, b"other")

    with pytest.raises(DataError, match="damaged"):
        load_weights(str(checkpoint))


def test_any_cut_of_a_checkpoint_is_refused(checkpoint: Path) -> None:
    whole = checkpoint.read_bytes()

    for length in range(0, len(whole), 97):
        checkpoint.write_bytes(whole[:length])
        with pytest.raises(DataError):
            load_weights(str(checkpoint))
