"""Values, sizes and counts as people read them."""


def apart(before: str | None, after: str | None, width: int) -> tuple[str, str]:
    """Cut two values so that their first difference is seen."""
    texts = ["(missing)" if one is None else one for one in (before, after)]
    pairs = enumerate(zip(*texts, strict=False))
    alike = next((at for at, (old, new) in pairs if old != new), min(map(len, texts)))
    start = alike - width // 2 if alike >= width else 0
    cut = [("..." if start else "") + one[start : start + width] for one in texts]
    return cut[0], cut[1]


def size(size_bytes: int) -> str:
    """Write a number of bytes for people."""
    amount = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(amount) < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
