"""Names that are not ours may hold anything; a terminal obeys none of it."""

import pytest
from rich.console import Group
from rich.table import Table

from mlstack import ui
from mlstack.errors import DataError
from mlstack.printable import harmless, printable
from mlstack.records.base import Record, Result

ODD = "\x1b[31mred\x1b[0m\u202e"


class Answer(Result, frozen=True, kw_only=True, tag="test.answer"):
    """What a command found."""


class Step(Record, frozen=True, kw_only=True, tag="test.step"):
    """How far it is."""


def table(_: Record) -> Group:
    drawn = Table(box=None)
    drawn.add_column(ODD)
    drawn.add_row(f"{ODD} :cat: [bold]x[/bold]")
    return Group(drawn, ODD)


def test_a_name_is_one_line_and_a_text_keeps_its_lines() -> None:
    assert printable("a\nb\t\x1b[31m\u202e") == "a\\nb\\t\\x1b[31m\\u202e"
    assert harmless("a\nb\t\x1b[31m\u202e") == "a\nb\t\\x1b[31m\\u202e"
    assert printable("caf\u00e9 \u65e5") == harmless("caf\u00e9 \u65e5") == "caf\u00e9 \u65e5"


@pytest.mark.parametrize("draw", [lambda _: f"class {ODD}: 3", table])
def test_nothing_that_is_shown_commands_the_terminal(
    draw: ui.Draw, capsys: pytest.CaptureFixture[str]
) -> None:
    ui.show(iter((Step(), Answer())), draw, ui.Mode.TEXT)
    ui.show_error(DataError(ODD, hint=ODD, where=ODD), ui.Mode.TEXT)

    for text in capsys.readouterr():
        assert "\\x1b[31mred\\x1b[0m\\u202e" in text
        assert text.replace("\n", "").isprintable()


def test_a_name_is_shown_as_it_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    ui.show(iter((Answer(),)), table, ui.Mode.TEXT)

    assert ":cat: [bold]x[/bold]" in capsys.readouterr().out


def test_a_program_gets_names_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    ui.show_error(DataError(ODD), ui.Mode.JSON)

    assert "\\u001b[31mred" in capsys.readouterr().out
