"""Labels as other programs write them: what is no text becomes one, or is refused by name."""

from pathlib import Path

import pyarrow as pa
import pytest

from mlstack.config.schema import Config
from mlstack.errors import DataError
from mlstack.launch import examples
from mlstack.records import dataset

PATHS = [f"{number:02}.png" for number in range(40)]
LABELS = [str(number % 2) for number in range(40)]


@pytest.fixture
def prepared(tmp_path: Path):
    """Give a function that prepares labels and gives their classes."""
    config = Config.model_validate(
        {
            "version": 1,
            "project": {"name": "demo", "task": "image-classification"},
            "data": {"source": "data/demo", "module": "demo:Data"},
            "model": {"class": "demo:Net"},
        }
    )

    def prepare(path: pa.Array, label: pa.Array) -> list[str]:
        folder = tmp_path / "demo"
        dataset.write_labels(folder / dataset.LABELS, pa.table({"path": path, "label": label}))
        return examples.prepare(folder, config, {name: name for name in PATHS})[1]

    return prepare


@pytest.mark.parametrize(
    ("label", "classes"),
    [
        (pa.array([int(one) for one in LABELS]), ["0", "1"]),
        (pa.array([float(one) for one in LABELS]), ["0", "1"]),
        (pa.array([one == "1" for one in LABELS]), ["false", "true"]),
        (pa.array(LABELS).dictionary_encode(), ["0", "1"]),
    ],
    ids=["whole", "decimal", "bool", "category"],
)
def test_labels_of_other_types_become_text(prepared, label, classes) -> None:
    assert prepared(pa.array(PATHS), label) == classes


@pytest.mark.parametrize(
    "missing",
    [
        pa.array([float("nan"), *map(float, LABELS[1:])]),
        pa.array([None, *LABELS[1:]]),
        pa.array([" ", *LABELS[1:]]),
    ],
    ids=["nan", "null", "blank"],
)
def test_what_is_no_label_is_no_class(prepared, missing) -> None:
    with pytest.raises(DataError) as caught:
        prepared(pa.array(PATHS), missing)

    assert [one.problem for one in caught.value.mistakes] == ["`00.png` has no label"]


@pytest.mark.parametrize(
    ("path", "label", "problem"),
    [
        (PATHS, pa.array([[one] for one in LABELS]), "`label` .* holds list"),
        (PATHS, pa.array([b"\xff"] * 40), "`label` .* holds binary"),
        ([*PATHS[:-1], None], pa.array(LABELS), "row 40 .* names no file"),
    ],
    ids=["list", "bytes", "no path"],
)
def test_columns_that_hold_no_text_are_refused_by_name(prepared, path, label, problem) -> None:
    with pytest.raises(DataError, match=problem):
        prepared(pa.array(path), label)
