"""What a person reads of where a model comes from."""

from textwrap import wrap

from mlstack.plurals import counted
from mlstack.records.package import GateResult
from mlstack.version.lineage import Predicted, Shown

WIDTH = 66
BESIDE = "|           "


def draw(record: Shown) -> str:
    """Write the origin as a tree of one level."""
    lines = [_title(record)]
    if record.prediction:
        lines += _branch("answer", _answer(record.prediction))
    lines += _branch("run", _run(record))
    lines += _branch("data", _data(record))
    lines += _branch("code", [_code(record)])
    lines += _branch("config", _settings(record))
    packages = record.environment.packages
    named = ", ".join(f"{name} {packages[name]}" for name in sorted(packages))
    machine = f"Python {record.environment.python}, {record.environment.platform}"
    lines += _branch("machine", [machine, *_gpus(record), *wrap(named or "no libraries", WIDTH)])
    metrics = ", ".join(f"{key} {value:.4g}" for key, value in sorted(record.metrics.items()))
    lines += _branch("metrics", wrap(metrics or "(none)", WIDTH))
    if record.gates:
        lines += _branch("gates", [_gate(gate) for gate in record.gates])
    lines += _branch("parents", [" <- ".join(record.parents) or "(none)"])
    lines.append(f"`- packages {', '.join(record.packages) or '(none)'}")
    lines.extend(f"   note: {note}" for note in record.notes)
    return "\n".join(lines)


def _branch(name: str, texts: list[str]) -> list[str]:
    return [f"|- {name:<8} {texts[0]}", *(BESIDE + text for text in texts[1:])]


def _title(record: Shown) -> str:
    if record.model and record.number is not None:
        name = f"{record.model}/{record.number}"
    else:
        name = f"a graph of {record.model}" if record.model else f"run {record.run}"
    where = "; ".join(record.live) or ("not live" if record.number is not None else "")
    title = f"{name}  ({where})" if where else name
    return f"prediction {record.prediction.id} of {title}" if record.prediction else title


def _answer(record: Predicted) -> list[str]:
    sure = f" ({record.confidence:.1%})" if record.confidence is not None else ""
    said = f"{record.prediction}{sure}" if record.prediction is not None else "no prediction"
    true = f", labeled {record.label} later" if record.label is not None else ""
    return [
        f"{said}{true}",
        f"{record.at}, status {record.status}, {record.latency_us / 1000:.1f} ms, {record.route}",
    ]


def _run(record: Shown) -> list[str]:
    resumed = (record.attempts or 1) - 1
    again = f", resumed {resumed}x" if resumed else ""
    lines = [f"{record.run}, {record.created}, seed {record.seed}{again}"]
    if record.checkpoint_sha256:
        lines.append(f"checkpoint sha256 {record.checkpoint_sha256[:16]}")
    return lines


def _data(record: Shown) -> list[str]:
    data = record.dataset
    dirty = " (dirty: in no snapshot)" if data.dirty else ""
    return [
        f"{data.source}, md5 {data.md5}, {counted(data.files, 'file')}",
        f"revision {data.revision or '(none)'}{dirty}",
    ]


def _code(record: Shown) -> str:
    code = record.code
    changes = f" + {code.diff_file or 'changes'}" if code.dirty else ""
    digest = f" (sha256 {code.diff_sha256[:12]})" if code.dirty and code.diff_sha256 else ""
    return f"commit {code.commit or '(none)'}{changes}{digest}"


def _settings(record: Shown) -> list[str]:
    if record.compared_with is None:
        return ["(nothing to compare with; --json has it all)"]
    if not record.settings:
        return [f"as in {record.compared_with}"]
    changes = [f"{s.key}: {s.before} -> {s.after}" for s in record.settings]
    return [f"against {record.compared_with}:", *changes]


def _gpus(record: Shown) -> list[str]:
    return [f"GPU {gpu}" for gpu in record.environment.gpus]


def _gate(gate: GateResult) -> str:
    verdict = "passed" if gate.passed else "red"
    if gate.measured is None:
        return f"{verdict}  {gate.name}"
    limit = f", limit {gate.limit:.4g}" if gate.limit is not None else ""
    return f"{verdict}  {gate.name}: {gate.measured:.4g}{limit}"
