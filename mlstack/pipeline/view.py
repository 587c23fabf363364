"""What a person reads of the pipeline."""

from mlstack.pipeline.result import Ran, StageOutcome, StageStarts, Status
from mlstack.records.base import Record


def draw(record: Record) -> str | None:
    """Turn a record into text."""
    match record:
        case StageStarts():
            return f"-- {record.stage}: {record.command} ({record.why})"
        case Ran():
            return _ran(record)
        case Status():
            return _status(record)
    return None


def _ran(record: Ran) -> str:
    lines = [_outcome(outcome) for outcome in record.stages]
    if not any(outcome.ran for outcome in record.stages):
        lines.append("nothing to do: everything is up to date")
    return "\n".join(lines)


def _outcome(outcome: StageOutcome) -> str:
    did = f"ran, because {outcome.why}" if outcome.ran else "up to date"
    return f"{outcome.stage:<8} {outcome.result:<24} {did}"


def _status(record: Status) -> str:
    lines = [f"{record.project}: {record.task}", ""]
    width = max(len(line.part) for line in record.lines)
    lines.extend(
        f"{' ' if line.is_well else '!'} {line.part:<{width}}  {line.state}"
        for line in record.lines
    )
    lines += ["", f"next: {record.next}", f"      {record.why}"]
    return "\n".join(lines)
