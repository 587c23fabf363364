"""What a person reads of labeling: one is one."""

import pytest

from mlstack.label import view
from mlstack.label.results import LabelingEnded, LabelsExported, LabelsImported, LabelsRebuilt
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
