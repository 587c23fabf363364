"""One file, two files."""

import pytest

from mlstack.plurals import counted, figure, plural


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 files"), (1, "1 file"), (2, "2 files"), (1000, "1000 files")]
)
def test_a_number_has_its_word(count: int, said: str) -> None:
    assert counted(count, "file") == said


def test_a_word_of_another_plural_is_given() -> None:
    assert [plural(count, "is", "are") for count in (0, 1, 2)] == ["are", "is", "are"]


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.123456, "0.123"), (999.4, "999"), (999.9, "1,000"), (-25123.4, "-25,123"), (3e7, "3e+07")],
)
def test_a_figure_is_read_as_people_write_it(value: float, said: str) -> None:
    assert figure(value) == said
