"""Names that are not ours, such as a class or a file, where a person reads them."""

import re

# What moves the cursor, colours the screen or turns the direction of writing; a line's end and a
# tab are left. Those below and above are C0, C1, and the marks of direction.
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Write control characters and what is no Unicode as escapes, so that a name is one line."""
    return "".join(one if one.isprintable() else _escaped(one) for one in text)


def harmless(text: str) -> str:
    """Write as escapes what would command a terminal; lines stay lines."""
    return UNSEEN.sub(lambda found: _escaped(found[0]), text)


def _escaped(one: str) -> str:
    return one.encode("unicode_escape", "surrogatepass").decode()
