"""The model card and Triton's configuration, rendered from facts alone."""

from collections.abc import Iterator
from dataclasses import dataclass

from mlstack.export import recipe
from mlstack.export.facts import Training
from mlstack.export.handover import Built, Figures, Slice
from mlstack.export.markdown import code, row, text
from mlstack.inputs.tables import TableSpec
from mlstack.plurals import plural
from mlstack.records.edge import Edge, EdgeModel
from mlstack.records.lineage import Lineage
from mlstack.records.package import GateResult, Tensor
from mlstack.records.variants import Variants
from mlstack.stats.testing import wilson

MOST_CLASSES = 50
TAGS = {"tabular": "tabular-classification"}


@dataclass(frozen=True)
class Shown:
    """What a card shows beside the figures."""

    precision: str
    gates: list[GateResult]
    variants: Variants
    latency_ms: dict[str, float]
    training: Training
    edge: Edge


def card(lineage: Lineage, built: Built, figures: Figures, shown: Shown) -> str:
    """Render README.md of a package, with the front matter that model hubs read."""
    task = lineage.config["project"]["task"]
    title = f"# {lineage.model} {lineage.number}"
    lead = (
        f"{task}, {len(built.classes)} classes, {built.parameters:,} parameters, "
        f"{shown.precision}, {figures.size_bytes:,} bytes."
    )
    sections = (
        _front(task),
        [title, "", lead],
        _origin(lineage, shown.training),
        _interface(built),
        _use(built),
        _quality(lineage, figures),
        _limits(built, figures),
        ["## Variants that were tried", *_variants(shown.variants)],
        _edge(shown.edge),
        _proofs(figures, shown),
    )
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def _front(task: str) -> list[str]:
    return [
        "---",
        "library_name: onnx",
        f"pipeline_tag: {TAGS.get(task, task)}",
        "tags: [onnx, mlstack]",
        "---",
    ]


def _origin(lineage: Lineage, training: Training) -> list[str]:
    return [
        "## Where it comes from",
        f"- run `{lineage.run}`, seed {lineage.seed}, checkpoint SHA-256 "
        f"`{lineage.checkpoint_sha256[:16]}...`",
        f"- data `{lineage.dataset.source}`, version `{lineage.dataset.md5}`"
        + _revision(lineage.dataset.revision, lineage.dataset.dirty)
        + _amount(lineage),
        f"- code commit `{lineage.code.commit or 'none'}`"
        + (" with uncommitted changes" if lineage.code.dirty else ""),
        f"- split: {_split(lineage.dataset.split)}",
        f"- training: {training.told()}",
    ]


def _interface(built: Built) -> list[str]:
    return [
        "## What goes in and what comes out",
        *(_tensor(t) for t in [built.input, *built.outputs]),
        f"- raw files: {_preprocess(built.preprocess)}",
        f"- classes: {_classes(built.classes)}",
    ]


def _use(built: Built) -> list[str]:
    script = recipe.python(built.preprocess, built.input.name)
    if not script:
        return []
    return [
        "## How to use it without mlstack",
        "In this folder, with the file to answer:",
        "",
        "```python",
        script.rstrip(),
        "```",
    ]


def _quality(lineage: Lineage, figures: Figures) -> list[str]:
    examples = lineage.dataset.split
    lines = [
        "## How good it is",
        "Measured on this graph, on examples it was not trained on.",
        "",
        "| metric | value | 95 % interval |",
        "|---|---|---|",
    ]
    for name, value in sorted(figures.metrics.items()):
        part, _, kind = name.partition("/")
        interval = _interval(value, examples.get(part, 0)) if kind == "acc" else ""
        lines.append(f"| {name} | {value:.4f} | {interval} |")
    lines += ["", "| class | accuracy |", "|---|---|"]
    shown = list(figures.per_class.items())[:MOST_CLASSES]
    lines += [row(code(name), f"{value:.4f}") for name, value in shown]
    more = len(figures.per_class) - len(shown)
    lines += [row(f"{more} more in `mlstack/metrics.json`", "")] if more else []
    if figures.slices:
        lines += ["", "| slice | accuracy | examples |", "|---|---|---|"]
        lines += [row(_named(s), f"{s.accuracy:.4f}", str(s.examples)) for s in figures.slices]
    return lines


def _interval(share: float, examples: int) -> str:
    if not examples:
        return ""
    low, high = wilson(round(share * examples), examples)
    return f"{low:.4f} to {high:.4f}"


def _limits(built: Built, figures: Figures) -> list[str]:
    """Say what the figures say against it."""
    lines = [
        "## Limits",
        f"- It answers one of its {len(built.classes)} classes to anything; "
        "it has no answer for what is none of them.",
    ]
    if figures.per_class:
        name, value = min(figures.per_class.items(), key=lambda entry: entry[1])
        lines.append(
            f"- Its weakest class is {code(name)}: {value:.1%} of those examples are right."
        )
    few = [s for s in figures.slices if s.examples < 30]
    if few:
        lines.append(
            f"- {len(few)} slices have fewer than 30 examples, so their figures say little: "
            + ", ".join(_named(s) for s in few[:5])
        )
    absent = [name for name in built.classes if name not in figures.per_class]
    if absent:
        lines.append(f"- Not measured, for want of examples: {_classes(absent)}.")
    lines.append("- Fairness and robustness against attacks were not measured.")
    return lines


def _named(found: Slice) -> str:
    return f"{code(found.column)} {code(found.value)}"


def _proofs(figures: Figures, shown: Shown) -> list[str]:
    return [
        "## What it had to prove",
        "| gate | measured | limit | |",
        "|---|---|---|---|",
        *(_gate(gate) for gate in shown.gates),
        "",
        f"One call: p50 {shown.latency_ms['p50']:.3g} ms, "
        f"p99 {shown.latency_ms['p99']:.3g} ms on the machine that exported it.",
        "",
        f"`mlstack export verify` answers its {len(figures.golden.examples)} golden examples "
        "again; the manifest names the SHA-256 of every file.",
    ]


def _amount(lineage: Lineage) -> str:
    data = lineage.dataset
    return (
        f", {data.files:,} {plural(data.files, 'file')}, {data.size_bytes:,} bytes"
        if data.files
        else ""
    )


def triton(model: str, built: Built, max_batch: int) -> str:
    """Render config.pbtxt: the folder of packages is a model repository of Triton."""
    parts = [_triton_tensor("input", [built.input]), _triton_tensor("output", built.outputs)]
    return (
        f'name: "{model}"\nbackend: "onnxruntime"\nmax_batch_size: {max_batch}\n'
        + "".join(parts)
        + "dynamic_batching { }\n"
    )


def _triton_tensor(kind: str, tensors: list[Tensor]) -> str:
    lines = [
        f'  {{ name: "{t.name}" data_type: TYPE_{t.datatype} '
        f"dims: [ {', '.join(map(str, t.shape[1:])) or '1'} ] }}"
        for t in tensors
    ]
    return f"{kind} [\n" + ",\n".join(lines) + "\n]\n"


def _tensor(tensor: Tensor) -> str:
    shape = ", ".join("any" if size < 0 else str(size) for size in tensor.shape)
    return f"- `{tensor.name}` {tensor.datatype} ({shape})"


def _preprocess(spec: dict[str, object] | None) -> str:
    if spec is None:
        return "none; it takes tensors only"
    if spec["kind"] == "table":
        return _columns(TableSpec.from_json(spec))
    if spec["kind"] == "text":
        return (
            f"texts as JSON, in `{spec['column']}`: the first {spec['length']} tokens of a "
            "byte-pair encoding that `signature.json` holds (library `tokenizers`)"
        )
    return ", ".join(f"{key} {value}" for key, value in spec.items())


def _columns(spec: TableSpec) -> str:
    numbers = ", ".join(code(name) for name in spec.numbers)
    texts = ", ".join(f"{code(name)} ({len(values)})" for name, values in spec.categories.items())
    numbers = f" numbers {numbers}" if numbers else ""
    texts = f"; texts, each with how many values are known: {texts}" if texts else ""
    return f"rows of a table as JSON:{numbers}{texts}"


def _classes(classes: list[str]) -> str:
    shown = ", ".join(code(name) for name in classes[:MOST_CLASSES])
    return shown + (f" and {len(classes) - MOST_CLASSES} more" * (len(classes) > MOST_CLASSES))


def _split(split: dict[str, int]) -> str:
    return ", ".join(f"{part} {count}" for part, count in split.items()) or "not recorded"


def _revision(revision: str | None, dirty: bool) -> str:
    known = f", git revision `{revision}`" if revision else ""
    return known + (" (not snapshotted)" if dirty else "")


def _gate(gate: GateResult) -> str:
    measured = "" if gate.measured is None else f"{gate.measured:.4g}"
    limit = "" if gate.limit is None else f"{gate.limit:g}"
    return row(gate.name, measured, limit, text(gate.detail))


def _edge(edge: Edge) -> list[str]:
    if not edge.models:
        return []
    return [
        "## Other formats",
        "The same model; `mlstack serve` does not use them. Lost and gained: examples that only "
        "ONNX in fp32, or only this, gets right.",
        "",
        "| format | file | size | p50 of 1 row | lost | gained | |",
        "|---|---|---|---|---|---|---|",
        *(_edge_model(one) for one in edge.models),
    ]


def _edge_model(one: EdgeModel) -> str:
    p50 = one.measured.p50_ms() if one.measured else None
    told = "| | |" if p50 is None else f"{p50:.3g} ms | {one.lost} | {one.gained}"
    verified = one.runtime if one.verified else f"**{one.why}**"
    return (
        f"| {one.format} {one.precision} | `{one.files[0]}` | {one.size_bytes:,} bytes "
        f"| {told} | {verified} |"
    )


def _variants(weighed: Variants) -> Iterator[str]:
    yield "| variant | size | p50 of 1 row | agreement | largest change | |"
    yield "|---|---|---|---|---|---|"
    for one in weighed.variants:
        if one.size_bytes is None:
            yield row(one.precision, "", "", "", "", text(one.why))
            continue
        p50 = one.p50_ms()
        yield row(
            one.precision,
            f"{one.size_bytes:,} bytes",
            f"{p50 or 0:.3g} ms",
            f"{one.agreement:.2%}",
            f"{one.max_probability_diff:.2g}",
            ("**chosen**: " if one.chosen else "") + text(one.why),
        )
