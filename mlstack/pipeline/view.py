"""What a person reads of the pipeline."""

from mlstack.pipeline.result import (
    DryRun,
    PipelineRewritten,
    Ran,
    StageOutcome,
    StageRetries,
    StageStarts,
    StageTakes,
    Status,
)
from mlstack.records.base import Record

BEFORE = "was made before, from the same data, code and settings"


def draw(record: Record) -> str | None:
    """Turn a record into text."""
    match record:
        case StageStarts():
            return f"-- {record.stage}: {record.command} ({record.why})"
        case StageTakes():
            return f"{record.result} {BEFORE}"
        case StageRetries():
            return (
                f"-- {record.stage}: {record.problem}; "
                f"attempt {record.attempt} of {record.attempts} in {record.wait_s:g} s"
            )
        case PipelineRewritten():
            return f"note: {record.text}"
        case Ran():
            return _ran(record)
        case DryRun():
            return _dry(record)
        case Status():
            return _status(record)
    return None


def _ran(record: Ran) -> str:
    lines = [_outcome(outcome) for outcome in record.stages]
    if not any(outcome.ran for outcome in record.stages):
        lines.append("nothing to do: everything is up to date")
    return "\n".join(lines)


def _outcome(outcome: StageOutcome) -> str:
    verb = "went on" if outcome.how == "resumed" else "ran"
    did = f"{verb}, because {outcome.why}" if outcome.ran else "up to date"
    if outcome.how == "taken":
        did = BEFORE
    return f"{outcome.stage:<8} {outcome.result:<26} {did}"


def _dry(record: DryRun) -> str:
    lines: list[str] = []
    for plan in record.stages:
        first, *more = [*plan.why, ""]
        lines.append(f"{plan.stage:<8} {plan.verdict:<10} {first}".rstrip())
        lines.extend(f"{'':<19} {why}" for why in more if why)
    if all(plan.verdict == "up to date" for plan in record.stages):
        lines.append("nothing to do: everything is up to date")
    return "\n".join(lines)


def _status(record: Status) -> str:
    lines = [f"{record.project}: {record.task}", ""]
    width = max(len(line.part) for line in record.lines)
    lines.extend(
        f"{' ' if line.is_well else '!'} {line.part:<{width}}  {line.state}"
        for line in record.lines
    )
    lines += ["", f"next: {record.next}", f"      {record.why}"]
    return "\n".join(lines)
