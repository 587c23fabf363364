"""The model card and Triton's configuration, rendered from facts alone."""

from mlstack.export.handover import Built, Figures
from mlstack.inputs.tables import TableSpec
from mlstack.records.lineage import Lineage
from mlstack.records.package import GateResult, Tensor

MOST_CLASSES = 50


def card(
    lineage: Lineage, built: Built, figures: Figures, gates: list[GateResult], precision: str
) -> str:
    """Render README.md of a package."""
    return "\n".join(
        [
            f"# {lineage.model} {lineage.number}",
            "",
            f"{lineage.config['project']['task']}, {len(built.classes)} classes, "
            f"{built.parameters:,} parameters, {precision}, {figures.size_bytes:,} bytes.",
            "",
            "## Where it comes from",
            f"- run `{lineage.run}`, seed {lineage.seed}, checkpoint SHA-256 "
            f"`{lineage.checkpoint_sha256[:16]}...`",
            f"- data `{lineage.dataset.source}`, version `{lineage.dataset.md5}`"
            + _revision(lineage.dataset.revision, lineage.dataset.dirty),
            f"- code commit `{lineage.code.commit or 'none'}`"
            + (" with uncommitted changes" if lineage.code.dirty else ""),
            f"- split: {_split(lineage.dataset.split)}",
            "",
            "## What goes in and what comes out",
            *(_tensor(t) for t in [built.input, *built.outputs]),
            f"- raw files: {_preprocess(built.preprocess)}",
            f"- classes: {_classes(built.classes)}",
            "",
            "## How good it is",
            "Measured on this graph, on examples it was not trained on.",
            "",
            "| metric | value |",
            "|---|---|",
            *(f"| {name} | {value:.4f} |" for name, value in sorted(figures.metrics.items())),
            "",
            "| class | accuracy |",
            "|---|---|",
            *(f"| {n} | {v:.4f} |" for n, v in list(figures.per_class.items())[:MOST_CLASSES]),
            "",
            "## What it had to prove",
            "| gate | measured | limit | |",
            "|---|---|---|---|",
            *(_gate(gate) for gate in gates),
            "",
            f"One call: p50 {figures.latency_ms['p50']:.3g} ms, "
            f"p99 {figures.latency_ms['p99']:.3g} ms on the machine that exported it.",
            "",
            f"`mlstack export verify` answers its {len(figures.golden.examples)} golden examples "
            "again; the manifest names the SHA-256 of every file.",
            "",
        ]
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
    numbers = ", ".join(f"`{name}`" for name in spec.numbers)
    texts = ", ".join(f"`{name}` ({len(values)})" for name, values in spec.categories.items())
    numbers = f" numbers {numbers}" if numbers else ""
    texts = f"; texts, each with how many values are known: {texts}" if texts else ""
    return f"rows of a table as JSON:{numbers}{texts}"


def _classes(classes: list[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in classes[:MOST_CLASSES])
    return shown + (f" and {len(classes) - MOST_CLASSES} more" * (len(classes) > MOST_CLASSES))


def _split(split: dict[str, int]) -> str:
    return ", ".join(f"{part} {count}" for part, count in split.items()) or "not recorded"


def _revision(revision: str | None, dirty: bool) -> str:
    known = f", git revision `{revision}`" if revision else ""
    return known + (" (not snapshotted)" if dirty else "")


def _gate(gate: GateResult) -> str:
    measured = "" if gate.measured is None else f"{gate.measured:.4g}"
    limit = "" if gate.limit is None else f"{gate.limit:g}"
    return f"| {gate.name} | {measured} | {limit} | {gate.detail} |"
