"""What `mlstack export` leaves when every gate is green, and what `export verify` makes of it."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from export_runs import RUN, Cli, copy_project, mlstack
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import TYPE_UINT8, ModelConfig

from mlstack.inputs.images import FEATURES, ImageSpec, features, load
from mlstack.records import base, dataset, graph, package
from mlstack.records.lineage import Embedded, Lineage
from mlstack.records.reference import Reference
from mlstack.records.variants import Variants

pytestmark = pytest.mark.slow

GATES = """
gates:
  validation: {test/acc: {min: 0.5, max_drop_vs_live: 0.02}, val/loss: {max: 3}}
  slices: [{column: class, metric: acc, min: 0.3}]
  functionality: golden.jsonl
  latency: {p99_ms: 500, batch: 4}
"""


@pytest.fixture(scope="module")
def project(trained_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = copy_project(trained_once, tmp_path_factory.mktemp("package"))
    text = (root / "mlstack.yaml").read_text()
    kept = text.split("gates:")[0]
    (root / "mlstack.yaml").write_text(kept + GATES)
    shutil.copy(trained_once / "data/digits/images/0000.png", root / "zero.png")
    (root / "golden.jsonl").write_text('{"file": "zero.png", "label": "0"}\n')
    return root


@pytest.fixture(scope="module")
def exported(project: Path) -> Cli:
    done = mlstack(project, "export", "--json")
    assert done.code == 0, done.out + done.err
    assert done.json["live"] is None
    return done


@pytest.fixture(scope="module")
def first(project: Path, exported: Cli) -> Path:
    return project / exported.json["path"]


@pytest.fixture(scope="module")
def second(project: Path, first: Path) -> Path:
    base.write(project / "models/my_project/live.json", package.Live(live=1))
    done = mlstack(project, "export", RUN[-4:])
    assert done.code == 0, done.err
    assert done.out.endswith("next     mlstack serve promote 2\n")
    return project / "models/my_project/2"


@pytest.fixture
def copy(first: Path, tmp_path: Path) -> Path:
    return shutil.copytree(first, tmp_path / "package")


def read(folder: Path, name: str, kind: type) -> object:
    return base.read(folder / package.SIDE / f"{name}.json", kind)


def write_manifest(folder: Path) -> None:
    """Make the manifest true again after a change: only the content is wrong then."""
    old = read(folder, "manifest", package.Manifest)
    hashes = {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in old.files}
    new = package.Manifest(
        model=old.model,
        number=old.number,
        run=old.run,
        created=old.created,
        mlstack=old.mlstack,
        files=hashes,
    )
    base.write(folder / package.SIDE / package.MANIFEST, new)


def test_the_package_is_whole_and_named_in_the_answer(project: Path, exported: Cli) -> None:
    answer = exported.json

    assert answer["kind"] == "export.package"
    assert answer["path"] == "models/my_project/1"
    assert answer["run"] == RUN
    assert answer["notes"] == []
    assert all(gate["passed"] for gate in answer["gates"])
    manifest = package.verify_files(project / answer["path"])
    assert (manifest.model, manifest.number, manifest.run) == ("my_project", 1, RUN)
    assert {p.name for p in (project / "models/my_project").iterdir()} == {"1", "config.pbtxt"}


def test_the_graph_takes_any_number_of_uint8_images(first: Path) -> None:
    session = onnxruntime.InferenceSession(first / "model.onnx")

    (entry,) = session.get_inputs()
    assert (entry.name, entry.type) == ("images", "tensor(uint8)")
    assert entry.shape == ["batch", 16, 16, 1]
    assert [o.name for o in session.get_outputs()] == ["logits", "probabilities"]
    for rows in (1, 3, 50):
        logits, probabilities = session.run(None, {"images": np.zeros((rows, 16, 16, 1), "u1")})
        assert logits.shape == (rows, 10)
        assert probabilities.sum(axis=1) == pytest.approx(1)


def test_nothing_of_this_machine_is_inside_the_graph(first: Path) -> None:
    content = (first / "model.onnx").read_bytes()
    model = onnx.load(first / "model.onnx")
    facts = {e.key: e.value for e in model.metadata_props}

    bare = content.replace(facts["mlstack.lineage"].encode(), b"")
    for trace in (b".py", b"stack_trace", b"aten"):
        assert trace not in bare
    assert str(Path.home()).encode() not in content
    assert not model.graph.value_info
    assert facts["mlstack.run"] == RUN


def test_the_graph_itself_says_where_it_comes_from(first: Path) -> None:
    facts = graph.metadata(first / "model.onnx")
    whole = read(first, "lineage", Lineage)

    inside = base.decode(facts["mlstack.lineage"].encode(), Embedded, where="model.onnx")

    for name in ("model", "run", "dataset", "code", "config", "seed", "checkpoint_sha256"):
        assert getattr(inside, name) == getattr(whole, name)
    assert facts["mlstack.data"] == whole.dataset.md5


def test_signature_parity_lineage_and_metrics_are_read_back(first: Path, project: Path) -> None:
    signature = read(first, "signature", package.Signature)
    parity = read(first, "parity", package.Parity)
    lineage = read(first, "lineage", Lineage)
    metrics = read(first, "metrics", package.Metrics)

    assert ImageSpec.from_json(signature.preprocess) == ImageSpec(16, 16, 1)
    assert signature.classes == list("0123456789")
    assert parity.batch_sizes[:4] == [1, 2, 7, 32]
    assert parity.max_relative_diff < 1e-5
    assert parity.agreement == 1
    checkpoint = project / ".mlstack/runs" / RUN / "checkpoints/best.ckpt"
    assert lineage.checkpoint_sha256 == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert metrics.values["test/acc"] > 0.8
    assert set(metrics.per_class) == set("0123456789")


def test_test_accuracy_is_what_the_raw_files_give(first: Path, trained_once: Path) -> None:
    rows = base_examples(trained_once, "test")
    spec = ImageSpec(16, 16, 1)
    session = onnxruntime.InferenceSession(first / "model.onnx")

    images = np.stack([load(r["path"], spec) for r in rows])
    logits = session.run(["logits"], {"images": images})[0]

    accuracy = (logits.argmax(axis=1) == [r["target"] for r in rows]).mean()
    metrics = read(first, "metrics", package.Metrics)
    assert metrics.values["test/acc"] == pytest.approx(accuracy)


def test_the_reference_profile_counts_every_example(first: Path, trained_once: Path) -> None:
    reference = read(first, "reference", Reference)
    rows = base_examples(trained_once, "val") + base_examples(trained_once, "test")

    described = features(np.stack([load(r["path"], ImageSpec(16, 16, 1)) for r in rows]))

    assert reference.rows == len(rows)
    assert [c.name for c in reference.numeric] == [*FEATURES, "confidence"]
    for column in reference.numeric:
        assert sum(column.counts) == len(rows)
        assert len(column.counts) == len(column.edges) + 1 <= 3 * 64 + 1
    brightness = reference.numeric[0]
    assert brightness.mean == pytest.approx(described[:, 0].mean(), rel=1e-5)
    below = (described[:, 0] <= brightness.edges[0]).sum()
    assert brightness.counts[0] == below
    assert sum(reference.categories[0].counts.values()) == len(rows)


def test_golden_examples_cover_the_classes_in_raw_bytes(first: Path) -> None:
    golden = read(first, "golden", package.Golden)

    assert len(golden.examples) == 12
    assert {e.label for e in golden.examples} == set("0123456789")
    assert all((first / "mlstack/golden" / e.file).is_file() for e in golden.examples)
    assert all(sum(e.probabilities) == pytest.approx(1, abs=1e-4) for e in golden.examples)


def test_config_pbtxt_names_the_tensors(project: Path, exported: Cli) -> None:
    text = (project / "models/my_project/config.pbtxt").read_text()

    config = text_format.Parse(text, ModelConfig())  # Triton's own description of such a file
    assert config.backend == "onnxruntime"
    (given,) = config.input
    assert (given.name, given.data_type, [*given.dims]) == ("images", TYPE_UINT8, [16, 16, 1])
    assert {one.name for one in config.output} == {"logits", "probabilities"}
    assert config.max_batch_size > 1
    assert config.HasField("dynamic_batching")


def test_a_second_export_is_held_against_live(project: Path, first: Path, second: Path) -> None:
    gates = {g.name: g for g in read(second, "metrics", package.Metrics).gates}

    assert gates["test/acc drop vs live"].measured == 0
    assert "0 lost, 0 gained" in gates["no worse than live"].detail


def test_the_same_run_gives_the_same_bytes(first: Path, second: Path) -> None:
    names = {p.relative_to(first).as_posix() for p in first.rglob("*") if p.is_file()}
    again = {p.relative_to(second).as_posix() for p in second.rglob("*") if p.is_file()}

    differing = {n for n in names if (first / n).read_bytes() != (second / n).read_bytes()}

    assert names == again
    timed = {"metrics.json", "variants.json", "report.html"}
    named = {"manifest.json", "lineage.json"}
    assert differing <= {"README.md", *(f"mlstack/{n}" for n in timed | named)}
    one, two = (
        without(json.loads((f / "mlstack/lineage.json").read_text())) for f in (first, second)
    )
    assert one == two
    same, too = (read(f, "manifest", package.Manifest).content_sha256 for f in (first, second))
    assert same == too


def test_a_package_has_an_identity_of_what_it_answers_with(first: Path) -> None:
    manifest = read(first, "manifest", package.Manifest)
    assert len(manifest.content_sha256) == 64

    for name in manifest.files:
        other = msgspec.structs.replace(manifest, files=manifest.files | {name: "0" * 64})
        kind = name.removeprefix("mlstack/").split("/")[0].split(".")[0]
        answers = kind in ("model", "signature", "golden", "parity", "reference")
        assert (other.content_sha256 != manifest.content_sha256) == answers, name


def without(lineage: dict) -> dict:
    return {k: v for k, v in lineage.items() if k not in ("number", "created")}


def test_every_variant_is_in_the_package_with_its_speed(first: Path, exported: Cli) -> None:
    stored = read(first, "variants", Variants)

    (only,) = stored.variants
    assert (only.precision, only.chosen) == ("fp32", True)
    assert [t.batch for t in only.times] == [1, 4, 8, 32]  # 4 is the latency gate's
    timed = [t.batch for t in stored.training_code]
    assert timed[-1] == 32
    assert {*timed} <= {1, 8, 32}  # what the load of the machine made impossible is left out
    assert all(t.p50_ms <= t.p95_ms <= t.p99_ms for t in only.times)
    assert only.metrics == exported.json["metrics"]
    page = (first / "mlstack/report.html").read_text()
    assert "<th>fp32</th>" in page
    assert "http" not in page


def test_verify_takes_a_folder_a_name_or_nothing(project: Path, first: Path) -> None:
    for argument in ([str(first)], ["my_project/1"], []):
        done = mlstack(project, "export", "verify", *argument, "--json")

        assert done.code == 0, done.err
        assert done.json["examples"] == 12
        assert done.json["max_diff"] <= 1e-4


def test_verify_and_its_worker_never_import_torch(first: Path, tmp_path: Path) -> None:
    # A torch that cannot be imported, in front of the real one.
    for name in ("torch", "onnx", "pytorch_lightning"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not here')\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])

    done = subprocess.run(
        [sys.executable, "-m", "mlstack", "export", "verify", first],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "12 golden examples" in done.stdout


def test_verify_refuses_a_truncated_a_changed_and_a_missing_file(copy: Path) -> None:
    model = copy / "model.onnx"
    whole = model.read_bytes()
    model.write_bytes(whole[: len(whole) // 2])
    truncated = mlstack(copy, "export", "verify", str(copy))
    model.write_bytes(whole)
    (copy / "README.md").write_text("better than it is")
    changed = mlstack(copy, "export", "verify", str(copy))
    (copy / "mlstack/golden/00.png").unlink()
    missing = mlstack(copy, "export", "verify", str(copy), "--json")

    assert (truncated.code, changed.code, missing.code) == (3, 3, 3)
    assert "`model.onnx` differs" in truncated.err
    assert "`README.md` differs" in changed.err
    assert missing.json["error"]["code"] == 3


def test_verify_says_which_golden_example_is_answered_differently(copy: Path) -> None:
    path = copy / "mlstack/golden.json"
    content = json.loads(path.read_text())
    content["examples"][3]["probabilities"] = [0.1] * 10
    path.write_text(json.dumps(content))
    write_manifest(copy)

    done = mlstack(copy, "export", "verify", str(copy))

    assert done.code == 4
    assert "1 of 12 golden examples" in done.err
    assert content["examples"][3]["file"] in done.err


def test_verify_refuses_a_truncated_graph_even_if_the_manifest_agrees(copy: Path) -> None:
    model = copy / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1000])
    write_manifest(copy)

    done = mlstack(copy, "export", "verify", str(copy))

    assert done.code == 3
    assert "not a whole ONNX file" in done.err


def base_examples(project: Path, part: str) -> list[dict]:
    table = dataset.read_examples(project / ".mlstack/runs" / RUN / dataset.EXAMPLES)
    return [row for row in table.to_pylist() if row["split"] == part]
