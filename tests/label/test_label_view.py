"""What a person reads of labeling: one is one."""

import io

import pytest
from rich.console import Console

from mlstack.label import view
from mlstack.label.results import (
    LabelingEnded,
    LabelsChecked,
    LabelsExported,
    LabelsImported,
    LabelsRebuilt,
    LabelStats,
)
from mlstack.label.session import Serving
from mlstack.records.base import Record

EXPORTED = LabelsExported(file="a", format="csv", rows=1, new=1, changed=0, withdrawn=0, classes={})


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (Serving(url="u", remaining=1, total=1, shared=False), "1 of 1 image left"),
        (LabelingEnded(events=1, labeled=1, total=1), "1 answer saved; 1 of 1 image is labeled"),
        (EXPORTED, "1 label, 1 new"),
        (LabelsImported(file="a", format="csv", imported=1, unchanged=0), "imported 1 label from"),
        (LabelsRebuilt(events=1, damage="", kept_as="", missing=0), "labels.db is whole: 1 event"),
    ],
)
def test_one_of_a_kind_is_told_as_one(record: Record, said: str) -> None:
    assert said in str(view.draw(record))
    assert "events" not in str(view.draw(record))


def test_of_very_many_classes_the_first_are_named_and_the_rest_counted() -> None:
    classes = {f"kind {number}": 0 for number in range(100)} | {"kind 1": 3}

    said = str(view.draw(LabelsChecked(labeled=3, total=9, classes=classes)))

    assert "kind 29: 0  and 70 classes more" in said
    assert said.splitlines()[-1].startswith("no label of class kind 0, kind 2, ")
    assert said.endswith("kind 10 and 89 more")


def test_the_head_of_the_counts_is_not_broken_by_a_narrow_table() -> None:
    stats = LabelStats(total=600, labeled=596, classes={"a": 596}, annotators=[], agreement=[])
    stream = io.StringIO()

    Console(file=stream, width=80).print(view.draw(stats))

    assert stream.getvalue().splitlines()[0] == "596 of 600 images labeled"
