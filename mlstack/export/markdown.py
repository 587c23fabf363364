"""Names of the user's own in Markdown: shown as they are, whatever they hold."""

import re

from mlstack.printable import printable


def code(name: str) -> str:
    """Show a name as code; what cannot be seen in a line, such as a line's end, by its escape."""
    seen = printable(name)
    longest = max((len(run) for run in re.findall("`+", seen)), default=0)
    pad = " " if longest else ""
    fence = "`" * (longest + 1)
    return f"{fence}{pad}{seen}{pad}{fence}"


def text(sentence: str) -> str:
    """Show a sentence that may hold such names; none becomes a tag or begins a line."""
    return " ".join(sentence.splitlines()).replace("<", "\\<")


def row(*cells: str) -> str:
    """Give a row of a table; a bar in a cell, in code too, is no end of it."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
