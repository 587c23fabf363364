"""Names, sizes and counts as people read them."""


def printable(text: str) -> str:
    """Write control characters and what is no Unicode as escapes, so that a name is one line."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape", "surrogatepass").decode()
        for one in text
    )


def size(size_bytes: int) -> str:
    """Write a number of bytes for people."""
    amount = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(amount) < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
