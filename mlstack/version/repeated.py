"""What a person reads of a run that was trained again."""

from mlstack.version.lineage import Reproduced


def draw(record: Reproduced) -> str:
    """Name the level that was reached, each step to it, and what differs."""
    verdict = "the same" if record.same() else "different"
    lines = [f"{record.run} trained again as {record.again}: {verdict} ({record.headline()})"]
    for name, is_reached in record.levels().items():
        detail = ""
        if name == "metric-equal" and not record.weights_equal:
            detail = f"  (tolerance {record.tolerance:g})"
        lines.append(f"  {'yes' if is_reached else 'no ':<4} {name}{detail}")
    lines += [f"  ! {one.of} {one.name}: {one.detail}" for one in record.differences]
    for pair in record.metrics:
        if pair.first == pair.again and pair.first is not None:
            lines.append(f"  = {pair.name}: {pair.first:.6g}")
    if not record.same() and record.exact:
        lines.append("  note: machine and libraries are as they were, so the bits should be, too")
    if not record.same():
        lines.append(f"  the second run is in {record.folder}")
    return "\n".join(lines)
