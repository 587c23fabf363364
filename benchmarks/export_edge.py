"""One model in all formats, side by side: size, latency, accuracy, and what making them costs.

The networks of the templates `image-classification` (digits, 16 x 16) and `tabular` (30 columns),
trained as they lie, and the MobileNetV2 of `benchmarks/export.py` (32 x 32 RGB). All times of one
model were taken in turns in one process, on this machine's CPU, in FP32 unless said. The tables
are those of docs/edge.md.

    python benchmarks/export_edge.py [NAME ...]
"""

import json
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent)]
from export import CASES, python, trained  # noqa: E402

FORMATS = "openvino,executorch,litert,coreml"
CONVERTER = Path(__file__).parents[1] / ".litert/bin/python"  # of LiteRT; `make litert`
HEAD = "| | size | of ONNX | 1 / 8 / 32 rows, ms | test accuracy | lost, gained | largest change |"


def template(folder: Path, name: str) -> Path:
    """Make a template's project and train it."""
    python(folder, "-m", "mlstack", "init", name, "--template", name)
    python(folder / name, "-m", "mlstack", "train", "--quiet")
    return folder / name


def measure(project: Path, precision: str, formats: str = FORMATS) -> None:
    """Export to formats and print the table, and what it cost beside ONNX alone."""
    export = ("-m", "mlstack", "export", "--precision", precision, "--set", "gates={}", "--json")
    _, alone = python(project, *export)
    litert = ("--set", f"export.litert_python={CONVERTER}")
    answer, whole = python(project, *export, *litert, "--format", formats)
    side = project / json.loads(answer)["path"] / "mlstack"
    edge = json.loads((side / "edge.json").read_text())
    variants = json.loads((side / "variants.json").read_text())["variants"]
    base = next(v["size_bytes"] for v in variants if v["precision"] == "fp32")
    print(f"\n{HEAD}\n|{'---|' * 7}")
    for row in variants:
        if row["precision"] in edge["onnx"]:
            timed = row | {"times": edge["onnx"][row["precision"]]}
            show(f"ONNX {row['precision']}", timed, base, "")
    for model in edge["models"]:
        name = f"{model['format']} {model['precision']}"
        figures = model["measured"] or {}
        pair = f"{model['lost']}, {model['gained']} of {model['examples']}"
        show(name, figures | {"size_bytes": model["size_bytes"]}, base, pair if figures else "")
    print("\n" + "; ".join(sorted({m["runtime"] or m["why"] for m in edge["models"]})))
    print(f"export: {alone.cpu_s:.1f} s of CPU, with {formats} {whole.cpu_s:.1f}")


def show(name: str, row: dict, base: int, pair: str) -> None:
    """Print one line; what was not measured stays empty."""
    times = " / ".join(f"{t['p50_ms']:.3g}" for t in row.get("times", []))
    accuracy = row.get("metrics", {}).get("test/acc")
    change = row.get("max_probability_diff")
    size = row["size_bytes"]
    print(
        f"| {name} | {size / 1000:,.0f} kB | {size / base:.2f}x | {times} "
        f"| {'' if accuracy is None else f'{accuracy:.4f}'} | {pair} "
        f"| {'' if change is None else f'{change:.2g}'} |",
        flush=True,
    )


def main() -> None:
    """Print the table of each model that was named, or of all."""
    wanted = sys.argv[1:] or ["image-classification", "tabular", "MobileNet"]
    with tempfile.TemporaryDirectory() as name:
        for model in wanted:
            print(f"\n## {model}", flush=True)
            if model == "MobileNet":
                project = trained(Path(name), CASES[0])
                measure(project, "fp32")
                measure(project, "int8", "litert")  # OpenVINO's INT8 of it is refused
            else:
                is_image = model == "image-classification"
                measure(template(Path(name), model), "int8" if is_image else "fp32")


if __name__ == "__main__":
    main()
