"""What lies beside the graph for others: the card's script, the bill of materials, MLmodel."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from export_runs import RUN, mlstack
from mlflow.models import Model

from mlstack.export import recipe
from mlstack.export.facts import training
from mlstack.inputs import texts
from mlstack.inputs.tables import learn
from mlstack.records import run

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


def run_script(script: Path, argument: Path, folder: Path, blocked: Path) -> list[float]:
    """Run a script where mlstack cannot be imported."""
    (blocked / "mlstack.py").write_text("raise ImportError('not here')\n")
    done = subprocess.run(
        [sys.executable, script, argument],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(blocked)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_the_script_of_the_card_answers_raw_files_without_mlstack(
    package: Path, tmp_path: Path
) -> None:
    card = (package / "README.md").read_text()
    script = tmp_path / "answer.py"
    script.write_text(card.split("```python\n")[1].split("```")[0])
    golden = json.loads((package / "mlstack/golden.json").read_text())

    for example in golden["examples"][:3]:
        path = package / "mlstack/golden" / example["file"]
        found = run_script(script, path, package, tmp_path)
        assert found == pytest.approx(example["probabilities"], abs=1e-6)


@pytest.mark.parametrize(
    "row",
    [
        {"age": 33, "city": "Chur", "is_new": False},
        {"age": None, "city": "Lund", "is_new": None},
        {"age": 1.1, "city": None, "is_new": True},
    ],
    ids=["known", "unseen and missing", "missing text"],
)
def test_the_script_for_rows_encodes_missing_and_unseen_values_alike(
    row: dict, tmp_path: Path
) -> None:
    spec = learn(ROWS, ["age", "city", "is_new"])
    (tmp_path / "mlstack").mkdir()
    signature = tmp_path / "mlstack/signature.json"
    signature.write_text(json.dumps({"preprocess": spec.to_json()}))
    (tmp_path / "row.json").write_text(json.dumps(row))
    script = recipe.python(spec.to_json(), "input").split("session =")[0]
    (tmp_path / "read.py").write_text(script + "print(read(sys.argv[1])[0].tolist())\n")

    found = run_script(tmp_path / "read.py", tmp_path / "row.json", tmp_path, tmp_path)

    assert np.array(found, np.float32).tobytes() == spec.encode([row])[0].tobytes()


@pytest.mark.parametrize("text", ["Grüße aus Zürich", "猫", "", None, "half \ud83d", "a " * 99])
def test_the_script_for_texts_gives_the_same_tokens(text: str | None, tmp_path: Path) -> None:
    spec = texts.learn(["hello there", "good morning"], "body", 300, 24)
    (tmp_path / "mlstack").mkdir()
    signature = tmp_path / "mlstack/signature.json"
    signature.write_text(json.dumps({"preprocess": spec.to_json()}))
    (tmp_path / "row.json").write_text(json.dumps({"body": text}))
    script = recipe.python(spec.to_json(), "input").split("session =")[0]
    (tmp_path / "read.py").write_text(script + "print(read(sys.argv[1])[0].tolist())\n")

    found = run_script(tmp_path / "read.py", tmp_path / "row.json", tmp_path, tmp_path)

    assert found == spec.encode([{"body": text}])[0].tolist()


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
