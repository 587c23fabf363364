"""Whatever a class is called, the card shows it: rendered by another's Markdown, read back."""

import re
from html import unescape

from markdown_it import MarkdownIt

from mlstack.export.markdown import code, row, text

NAMES = ["01", "a|b", "`tick`", "``", "<b>x</b>", 'q"uo', "*star*", "under_score_", "ünï", "😀"]


def rendered(markdown: str) -> str:
    return MarkdownIt().enable("table").render(markdown)


def cells(html: str) -> list[str]:
    return [unescape(found) for found in re.findall("<td><code>(.*?)</code></td>", html)]


def test_every_name_is_a_cell_of_its_own() -> None:
    table = ["| class | accuracy |", "|---|---|", *(row(code(name), "1") for name in NAMES)]

    assert cells(rendered("\n".join(table))) == NAMES


def test_a_list_of_names_stays_one_line_of_code_spans() -> None:
    html = rendered("- classes: " + ", ".join(map(code, [*NAMES, "new\nline", "a\tb"])))

    found = [unescape(one) for one in re.findall("<code>(.*?)</code>", html)]
    assert found == [*NAMES, "new\\nline", "a\\tb"]
    assert html.count("<li>") == 1


def test_a_sentence_with_names_adds_no_line_and_no_tag() -> None:
    html = rendered(text("lowest: class <b>x</b>\n# and another"))

    assert unescape(html) == "<p>lowest: class <b>x</b> # and another</p>\n"
    assert "<b>" not in html
