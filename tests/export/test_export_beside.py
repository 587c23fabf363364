"""What lies beside the graph for others: the card's script, the bill of materials, MLmodel."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from export_runs import RUN, mlstack
from mlflow.models import Model
from odd_images import ODD
from onnx import TensorProto, helper, numpy_helper

from mlstack.errors import DataError
from mlstack.export import recipe
from mlstack.export.facts import training
from mlstack.inputs import preprocess, texts
from mlstack.inputs.images import ImageSpec
from mlstack.inputs.preprocess import Spec
from mlstack.inputs.tables import learn
from mlstack.records import run

Process = subprocess.CompletedProcess[str]
ROWS = [
    {"age": 30.5, "city": "Bern", "is_new": True},
    {"age": 41.25, "city": "Chur", "is_new": False},
    {"age": None, "city": None, "is_new": True},
]


@pytest.fixture(scope="module")
def package(trained_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from export_runs import copy_project

    root = copy_project(trained_once, tmp_path_factory.mktemp("beside"))
    done = mlstack(root, "export", "--mlflow", "--set", "gates={}", "--quiet")
    assert done.code == 0, done.err
    return root / done.out.strip()


READ = """
for path in sys.argv[1:]:
    array = read(path)
    print(json.dumps([array.dtype.str, array.shape, array.tobytes().hex()]))
"""


def called(script: Path, files: list[Path], folder: Path, blocked: Path) -> Process:
    """Run a script where mlstack cannot be imported."""
    (blocked / "mlstack.py").write_text("raise ImportError('not here')\n")
    return subprocess.run(
        [sys.executable, script, *files],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(blocked)},
        capture_output=True,
        text=True,
        check=False,
    )


def reads(spec: Spec, files: list[Path], folder: Path) -> Process:
    """Have the card's script for `spec` read files, and show the arrays it makes of them."""
    (folder / "mlstack").mkdir(exist_ok=True)
    signature = folder / "mlstack/signature.json"
    signature.write_text(json.dumps({"preprocess": spec.to_json()}))
    script = recipe.python(spec.to_json(), "input").split("session =")[0]
    (folder / "read.py").write_text(script + READ)
    return called(folder / "read.py", files, folder, folder)


def arrays(done: Process) -> list[np.ndarray]:
    assert done.returncode == 0, done.stderr
    shown = [json.loads(line) for line in done.stdout.splitlines()]
    return [np.frombuffer(bytes.fromhex(b), kind).reshape(shape) for kind, shape, b in shown]


def odd_files(folder: Path) -> list[Path]:
    for name, content in ODD.items():
        (folder / name).write_bytes(content())
    return [folder / name for name in ODD]


@pytest.mark.slow
def test_the_script_of_the_card_answers_raw_files_without_mlstack(
    package: Path, tmp_path: Path
) -> None:
    card = (package / "README.md").read_text()
    script = tmp_path / "answer.py"
    script.write_text(card.split("```python\n")[1].split("```")[0])
    golden = json.loads((package / "mlstack/golden.json").read_text())["examples"]
    files = [package / "mlstack/golden" / example["file"] for example in golden]
    files += odd_files(tmp_path)

    done = called(script, files, package, tmp_path)

    assert done.returncode == 0, done.stderr
    told = [line.split("\t") for line in done.stdout.splitlines()]
    session = onnxruntime.InferenceSession(package / "model.onnx")
    signature = json.loads((package / "mlstack/signature.json").read_text())
    batch = np.stack([preprocess.load(f, ImageSpec(16, 16, 1)) for f in files])
    answers = session.run(["probabilities"], {"images": batch})[0]
    assert [(path, name) for path, name, _ in told] == [
        (str(path), signature["classes"][place])
        for path, place in zip(files, answers.argmax(axis=1), strict=True)
    ]
    shown = [float(probability) for _, _, probability in told]
    assert shown == pytest.approx(answers.max(axis=1), abs=1e-6)
    for example, (_, name, probability) in zip(golden, told, strict=False):
        assert name == example["prediction"]
        assert float(probability) == pytest.approx(max(example["probabilities"]), abs=1e-6)


@pytest.mark.parametrize(
    "spec", [ImageSpec(16, 12, 3), ImageSpec(16, 16, 1)], ids=["colour", "grey"]
)
def test_the_script_for_images_decodes_odd_ones_to_the_same_bytes(
    spec: ImageSpec, tmp_path: Path
) -> None:
    files = odd_files(tmp_path)

    found = arrays(reads(spec, files, tmp_path))

    for path, array in zip(files, found, strict=True):
        assert array[0].tobytes() == preprocess.load(path, spec).tobytes(), path.name


@pytest.mark.parametrize(
    "row",
    [
        {"age": 33, "city": "Chur", "is_new": False},
        {"age": None, "city": "Lund", "is_new": None},
        {"age": 1.1, "city": None, "is_new": True},
        {"age": "", "city": "", "is_new": ""},
        {"age": "NaN", "city": "NA", "is_new": "null"},
        {"age": 33, "city": "Chur", "is_new": "False"},
        {"age": 33, "city": "Chur", "is_new": "tRUE"},
    ],
    ids=["known", "unseen and missing", "missing text", "empty", "in words", "as pandas", "odd"],
)
def test_the_script_for_rows_encodes_missing_and_unseen_values_alike(
    row: dict, tmp_path: Path
) -> None:
    spec = learn(ROWS, ["age", "city", "is_new"])
    (tmp_path / "row.json").write_text(json.dumps(row))

    (found,) = arrays(reads(spec, [tmp_path / "row.json"], tmp_path))

    assert found.tobytes() == spec.encode([row]).tobytes()


@pytest.mark.parametrize(
    "content",
    [
        '{"age": true, "city": "Bern", "is_new": true}',
        '{"age": "33", "city": "Bern", "is_new": true}',
        '{"age": NaN, "city": "Bern", "is_new": true}',
        '{"age": Infinity, "city": "Bern", "is_new": true}',
        '{"age": 1e999, "city": "Bern", "is_new": true}',
        '{"age": -1e300, "city": "Bern", "is_new": true}',
        '{"age": 33, "city": 7, "is_new": true}',
        '{"age": 33, "city": NaN, "is_new": true}',
        '{"age": 33, "is_new": true}',
    ],
)
def test_the_script_for_rows_refuses_what_mlstack_refuses(content: str, tmp_path: Path) -> None:
    spec = learn(ROWS, ["age", "city", "is_new"])
    (tmp_path / "row.json").write_text(content)
    with pytest.raises(DataError):
        preprocess.load(tmp_path / "row.json", spec)

    done = reads(spec, [tmp_path / "row.json"], tmp_path)

    assert (done.returncode, done.stdout) == (1, "")
    assert re.search("^(ValueError|KeyError): ", done.stderr, re.M)


@pytest.mark.parametrize("text", ["Grüße aus Zürich", "猫", "", None, "half \ud83d", "a " * 99])
def test_the_script_for_texts_gives_the_same_tokens(text: str | None, tmp_path: Path) -> None:
    spec = texts.learn(["hello there", "good morning"], "body", 300, 24)
    (tmp_path / "row.json").write_text(json.dumps({"body": text}))

    (found,) = arrays(reads(spec, [tmp_path / "row.json"], tmp_path))

    assert found.tobytes() == spec.encode([{"body": text}]).tobytes()


@pytest.mark.parametrize("given", [0, False, 7, ["a"]])
def test_the_script_for_texts_refuses_what_is_no_text(given: object, tmp_path: Path) -> None:
    spec = texts.learn(["hello there", "good morning"], "body", 300, 24)
    (tmp_path / "row.json").write_text(json.dumps({"body": given}))

    done = reads(spec, [tmp_path / "row.json"], tmp_path)

    assert done.returncode == 1
    assert "is not a text" in done.stderr


@pytest.mark.parametrize("kind", ["table", "text"])
def test_the_scripts_for_rows_tell_the_class_and_its_probability(kind: str, tmp_path: Path) -> None:
    if kind == "table":
        spec, row = learn(ROWS, ["age", "city", "is_new"]), ROWS[0]
    else:
        spec, row = texts.learn(["hello there"], "body", 300, 4), {"body": "hello"}
    (tmp_path / "mlstack").mkdir()
    signature = {"preprocess": spec.to_json(), "classes": ["no", "yes"]}
    (tmp_path / "mlstack/signature.json").write_text(json.dumps(signature))
    (tmp_path / "model.onnx").write_bytes(always(0.25, 0.75, spec.encode([row])))
    (tmp_path / "answer.py").write_text(recipe.python(spec.to_json(), "input"))
    (tmp_path / "row.json").write_text(json.dumps(row))

    done = called(tmp_path / "answer.py", [Path("row.json")] * 2, tmp_path, tmp_path)

    assert done.stdout == "row.json\tyes\t0.75\n" * 2, done.stderr


def always(no: float, yes: float, like: np.ndarray) -> bytes:
    """Make a graph that takes rows like these, and answers the same to any."""
    answer = numpy_helper.from_array(np.array([[no, yes]], np.float32))
    kind = helper.np_dtype_to_tensor_dtype(like.dtype)
    graph = helper.make_graph(
        [helper.make_node("Constant", [], ["probabilities"], value=answer)],
        "always",
        [helper.make_tensor_value_info("input", kind, ["batch", "width"])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, 2])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return made.SerializeToString()


@pytest.mark.slow
def test_the_card_tells_data_training_and_limits_from_facts(package: Path) -> None:
    card = (package / "README.md").read_text()

    assert card.startswith("---\nlibrary_name: onnx\npipeline_tag: image-classification\n")
    assert "- training: 25 epochs, 75 steps on cpu; energy was not measured" in card
    assert "- It answers one of its 10 classes to anything" in card
    assert "- Its weakest class is `" in card


@pytest.mark.slow
def test_the_bill_of_materials_names_model_data_and_libraries(package: Path) -> None:
    bill = json.loads((package / "mlstack/sbom.json").read_text())
    manifest = json.loads((package / "mlstack/manifest.json").read_text())

    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    model = bill["metadata"]["component"]
    assert model["type"] == "machine-learning-model"
    assert model["hashes"][0]["content"] == manifest["files"]["model.onnx"]
    assert bill["components"][0]["type"] == "data"
    known = {model["bom-ref"], *(c["bom-ref"] for c in bill["components"])}
    assert {d["ref"] for d in bill["dependencies"]} == known


@pytest.mark.slow
def test_mlflow_reads_what_lies_beside(package: Path) -> None:
    found = Model.load(str(package))

    assert found.run_id == RUN
    assert set(found.flavors) == {"onnx", "python_function"}
    assert (package / found.flavors["onnx"]["data"]).is_file()
    (entry,) = found.signature.inputs.to_dict()
    assert (entry["name"], entry["tensor-spec"]["dtype"]) == ("images", "uint8")
    assert entry["tensor-spec"]["shape"] == (-1, 16, 16, 1)


def test_training_is_told_over_all_attempts(tmp_path: Path) -> None:
    run.append_event(tmp_path, run.Started(run="r", at=1.0, ranks=2))
    run.append_event(tmp_path, run.Stopped(run="r", at=2.0, step=3, reason="Ctrl-C"))
    run.append_event(tmp_path, run.Started(run="r", at=3.0, ranks=2, attempt=2, device="gpu"))
    ended = run.Finished(run="r", at=9.0, step=1200, epoch=4, metrics={}, seconds=61.5)
    run.append_event(tmp_path, ended)

    told = training(tmp_path).told()

    assert told == (
        "4 epochs, 1,200 steps on gpu, 2 ranks, 61.5 s, in 2 attempts; energy was not measured"
    )
