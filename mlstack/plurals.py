"""Numbers and the words that go with them."""


def plural(count: int, one: str, many: str = "") -> str:
    """Give `one` for 1, else `many`, which is `one` with an s where it is left out."""
    return one if count == 1 else many or f"{one}s"


def counted(count: int, one: str, many: str = "") -> str:
    """Give the number and its word."""
    return f"{count} {plural(count, one, many)}"


def figure(value: float) -> str:
    """Give three digits that count, and whole numbers up to a million as people write them."""
    return f"{value:,.0f}" if 999.5 <= abs(value) < 1e6 else f"{value:.3g}"
