"""What it costs to ask where a model comes from: CPU of a whole `mlstack version show` process.

A project of 200 runs, 20 packages, one of them with a graph of 100 MB, and a log of 30 days with a
part a minute of a busy hour. Beside it, in the same rounds: a bare Python, and what reads the same
metadata of the same file with the `onnx` library or opens it with onnxruntime, and what reads the
same row of the log with pyarrow. Prints medians of CPU milliseconds, and the largest resident size.

    python benchmarks/version_show.py [ROUNDS]
"""

import os
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import TensorProto, helper, numpy_helper

from mlstack.records import requests
from mlstack.records.base import write
from mlstack.records.dataset import DatasetVersion
from mlstack.records.lineage import Lineage, embedded
from mlstack.records.package import GateResult, Live, Metrics
from mlstack.records.run import (
    CodeVersion,
    Environment,
    EpochEnded,
    Finished,
    RunSpec,
    Stepped,
    append_event,
)

MODEL = "digits"
WEIGHTS = 25_000_000  # float32: 100 MB
BEGIN = datetime(2026, 10, 1, 9, tzinfo=UTC)
YAML = f"""version: 1
project: {{name: {MODEL}, task: image-classification}}
data: {{source: data/{MODEL}}}
model: {{class: a.b:C}}
"""
ONNX = "import onnx; m = onnx.load({!r}); print({{e.key: e.value for e in m.metadata_props}})"
RUNTIME = (
    "import onnxruntime as o; print(o.InferenceSession({!r}, providers=['CPUExecutionProvider'])"
    ".get_modelmeta().custom_metadata_map)"
)
ARROW = (
    "import pyarrow.parquet as pq, sys; "
    "print(pq.read_table({!r}, filters=[('prediction_id', '==', {!r})], partitioning=None)"
    ".drop_columns(['input']).to_pylist())"
)


def spec_of(number: int) -> RunSpec:
    """Give the spec of one run."""
    return RunSpec(
        id=f"2026{number // 28 + 1:02d}{number % 28 + 1:02d}-000000-aaaa",
        created="2026-01-02T03:04:05Z",
        root="/project",
        command=["mlstack", "train"],
        config={"train": {f"setting{i}": i for i in range(80)}, "seed": number},
        dataset=DatasetVersion(
            name=MODEL, source=f"data/{MODEL}", md5="a" * 32 + ".dir", revision="b" * 40, files=9
        ),
        code=CodeVersion(commit="c" * 40, python_sha256="e" * 64),
        environment=Environment(
            python="3.11.7", platform="Linux", cpu_count=2, packages={"torch": "2.13.0"}
        ),
        seed=17,
        classes=list("0123456789"),
    )


def lay_runs(root: Path) -> RunSpec:
    """Write 200 runs of 1,000 steps each; give the newest."""
    for number in range(200):
        spec = spec_of(number)
        folder = root / ".mlstack" / "runs" / spec.id
        write(folder / "run.json", spec)
        if number % 20 == 19:
            for step in range(1000):
                event = Stepped(run=spec.id, at=1.0, epoch=1, step=step, batch=step, batches=1000)
                append_event(folder, event)
        metrics = {"val/acc": 0.98, "test/acc": 0.97}
        ended = EpochEnded(run=spec.id, at=2.0, epoch=1, epochs=1, step=9, metrics=metrics)
        append_event(folder, ended)
        append_event(folder, Finished(run=spec.id, at=3.0, step=9, epoch=1, metrics=metrics))
    return spec


def lay_packages(root: Path, spec: RunSpec) -> Path:
    """Write 20 packages; the last is live and its graph has 100 MB. Give that graph."""
    for number in range(1, 21):
        package = root / "models" / MODEL / str(number)
        lineage = Lineage(
            model=MODEL,
            number=number,
            run=spec.id if number == 20 else spec_of(number).id,
            created="2026-01-03T00:00:00Z",
            dataset=spec.dataset,
            code=spec.code,
            environment=spec.environment,
            config=spec.config,
            seed=17,
            checkpoint_sha256="d" * 64,
        )
        write(package / "mlstack" / "lineage.json", lineage)
        gates = [
            GateResult(name=f"gate {i}", passed=True, measured=1.0, limit=0.5) for i in range(9)
        ]
        write(package / "mlstack" / "metrics.json", Metrics(values={"test/acc": 0.97}, gates=gates))
    write(root / "models" / MODEL / "live.json", Live(live=20, changed="2026-01-04T00:00:00Z"))
    weights = numpy_helper.from_array(np.zeros(WEIGHTS, np.float32), "w")
    tensors = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [WEIGHTS]) for n in ("x", "y")]
    node = helper.make_node("Add", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "large", tensors[:1], tensors[1:], [weights])
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    origin = msgspec.json.encode(embedded(spec, MODEL, "d" * 64)).decode()
    for key, value in {"mlstack.lineage": origin, "mlstack.run": spec.id}.items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, package / "model.onnx")
    return package / "model.onnx"


def identify(at: datetime, row: int) -> str:
    """Give a prediction id of that moment."""
    stamp = f"{int(at.timestamp() * 1000):012x}"
    return f"{stamp[:8]}-{stamp[8:]}-7{row % 4096:03x}-8000-{row:012x}"


def lay_log(root: Path) -> tuple[str, Path]:
    """Write 60 parts of 1,000 rows in each of 30 hours; give an id in the middle and its part."""
    columns = dict.fromkeys(requests.BASE_COLUMNS)
    for hour in range(30):
        for minute in range(60):
            at = BEGIN + timedelta(days=hour, minutes=minute)
            rows = [
                columns
                | {
                    "prediction_id": identify(at + timedelta(milliseconds=50 * row), row),
                    "ts_us": int(at.timestamp() * 1e6) + 50_000 * row,
                    "model": MODEL,
                    "version": 20,
                    "route": "predict",
                    "status": 200,
                    "latency_us": 300,
                    "prediction": str(row % 10),
                    "confidence": 0.9,
                    "input": os.urandom(100),
                }
                for row in range(1000 if hour == 15 else 20)
            ]
            place = requests.partition(MODEL, f"{at:%Y-%m-%d}", f"{at:%H}")
            path = root / ".mlstack" / "requests" / place
            path.mkdir(parents=True, exist_ok=True)
            table = pa.Table.from_pylist(rows, schema=requests.schema([]))
            part = path / f"part-{int(at.timestamp() * 1e6)}-77.parquet"
            pq.write_table(table, part, compression="zstd", compression_level=1)
            if (hour, minute) == (15, 30):
                wanted = rows[500]["prediction_id"], part
    return wanted


def lay_wal(root: Path) -> str:
    """Write 5,000 rows that are not packed yet; give the id of one."""
    now = datetime(2026, 11, 1, 9, tzinfo=UTC)
    rows = [
        dict.fromkeys(requests.BASE_COLUMNS)
        | {"prediction_id": identify(now, row), "ts_us": int(now.timestamp() * 1e6)}
        | {"model": MODEL, "version": 20, "route": "predict", "status": 200, "latency_us": 9}
        for row in range(5000)
    ]
    path = (
        root / ".mlstack" / "requests" / "wal" / f"{MODEL}-77-{int(now.timestamp() * 1e6)}.arrows"
    )
    path.parent.mkdir()
    table = pa.Table.from_pylist(rows, schema=requests.schema([]))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table, max_chunksize=100)
    return str(rows[3000]["prediction_id"])


def measured(words: list[str], cwd: Path) -> tuple[float, int]:
    """Run once; give CPU milliseconds and the peak of resident MB."""
    code = (
        "import resource, subprocess, sys; "
        "done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL); "
        "u = resource.getrusage(resource.RUSAGE_CHILDREN); "
        "print(1000 * (u.ru_utime + u.ru_stime), u.ru_maxrss // 1024, done.returncode)"
    )
    said = subprocess.check_output([sys.executable, "-c", code, *words], cwd=cwd, text=True)
    milliseconds, megabytes, status = said.split()
    if status != "0":
        raise SystemExit(f"{words} ended with {status}")
    return float(milliseconds), int(megabytes)


def main() -> None:
    """Measure in alternating rounds and print a table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    python, mlstack = sys.executable, str(Path(sys.executable).with_name("mlstack"))
    show = [mlstack, "version", "show"]
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "project"
        root.mkdir()
        (root / "mlstack.yaml").write_text(YAML)
        spec = lay_runs(root)
        graph = lay_packages(root, spec)
        alone = Path(place) / "alone.onnx"
        alone.hardlink_to(graph)
        (prediction, part), waiting = lay_log(root), lay_wal(root)
        cases = {
            "bare Python": [python, "-c", "pass"],
            "show a package": [*show, f"{MODEL}/20"],
            "show a run": [*show, spec.id],
            "show a bare graph of 100 MB": [*show, str(alone)],
            "show a prediction (Parquet)": [*show, prediction],
            "show a prediction (not packed)": [*show, waiting],
            "a package, by typer and config": [mlstack, "version", "show", "20"],
            "metadata by onnx.load, 100 MB": [python, "-c", ONNX.format(str(alone))],
            "metadata by onnxruntime, 100 MB": [python, "-c", RUNTIME.format(str(alone))],
            "the row by pyarrow, part given": [python, "-c", ARROW.format(str(part), prediction)],
        }
        results: dict[str, list[tuple[float, int]]] = {name: [] for name in cases}
        for _ in range(rounds):
            for name, words in cases.items():
                results[name].append(measured(words, root))
    print(f"{rounds} rounds, {os.cpu_count()} cores, Python {sys.version.split()[0]}")
    print(f"{'':34}{'CPU ms':>8}{'least':>8}{'MB':>6}")
    for name, values in results.items():
        times = [milliseconds for milliseconds, _ in values]
        memory = max(megabytes for _, megabytes in values)
        print(f"{name:34}{statistics.median(times):8.0f}{min(times):8.0f}{memory:6}")


if __name__ == "__main__":
    main()
