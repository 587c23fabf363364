"""Numbers and the words that go with them."""


def plural(count: int, one: str, many: str = "") -> str:
    """Give `one` for 1, else `many`, which is `one` with an s where it is left out."""
    return one if count == 1 else many or f"{one}s"


def counted(count: int, one: str, many: str = "") -> str:
    """Give the number and its word."""
    return f"{count} {plural(count, one, many)}"
