"""Odd images in a project: one decoding from training to the server's answer."""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import onnxruntime
import pyarrow as pa
import pytest
from export_runs import RUN, mlstack
from odd_images import ODD

from mlstack.inputs import decoded
from mlstack.inputs.images import ImageSpec
from mlstack.records import dataset

pytestmark = pytest.mark.slow


def test_training_export_server_and_predict_answer_odd_images_alike(trained: Path) -> None:
    paths = _odd_test_part(trained)

    done = mlstack(trained, "export", "--set", "gates={}", "--json")

    assert done.code == 0, done.out + done.err
    gates = {gate["name"]: gate for gate in done.json["gates"]}
    assert gates["preprocessing min"]["measured"] == 1
    package = trained / done.json["path"]
    golden = json.loads((package / "mlstack/golden.json").read_text())
    kinds = {Path(example["file"]).suffix for example in golden["examples"]}
    assert kinds >= {".jpg", ".png", ".tiff"}
    assert mlstack(trained, "export", "verify").code == 0
    expected = _trained_answers(trained, package, paths)
    served = _served(trained, paths)
    offline = mlstack(trained, "serve", "predict", *map(str, paths), "--json").json["predictions"]
    for path, row, live, file in zip(paths, expected, served, offline, strict=True):
        for answer in (live["probabilities"], file["probabilities"]):
            found = np.array([answer[str(digit)] for digit in range(10)])
            assert np.abs(found - row).max() < 1e-6, path.name


def _odd_test_part(project: Path) -> list[Path]:
    """Make the run's test part one of odd images, a label after the other."""
    folder = project / "data/digits/images"
    table = project / ".mlstack/runs" / RUN / dataset.EXAMPLES
    rows = [r for r in dataset.read_examples(table).to_pylist() if r["split"] != "test"]
    paths = []
    for number, (name, content) in enumerate(ODD.items()):
        paths.append(folder / name)
        paths[-1].write_bytes(content())
        target = number % 10
        rows.append(
            {"path": str(paths[-1]), "label": str(target), "target": target, "split": "test"}
        )
    dataset.write_examples(table, pa.Table.from_pylist(rows, schema=dataset.EXAMPLES_SCHEMA))
    return paths


def _trained_answers(project: Path, package: Path, paths: list[Path]) -> np.ndarray:
    """Answer what training decodes, by plain onnxruntime."""
    examples = project / ".mlstack/runs" / RUN / dataset.EXAMPLES
    rows = dataset.read_examples(examples)
    test = rows.filter(pa.compute.equal(rows["split"], "test"))
    assert test["path"].to_pylist() == [str(path) for path in paths]
    images, places = decoded.images(examples, test, ImageSpec(16, 16, 1))
    session = onnxruntime.InferenceSession(package / "model.onnx")
    return session.run(["probabilities"], {"images": np.ascontiguousarray(images[places])})[0]


def _served(project: Path, paths: list[Path]) -> list[dict]:
    """Send each file to a server."""
    command = [sys.executable, "-m", "mlstack", "serve", "--port", "0", "--json"]
    with (project / "server.txt").open("w") as errors:
        process = subprocess.Popen(
            command, cwd=project, stdout=subprocess.PIPE, stderr=errors, text=True, env=os.environ
        )
    try:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        with httpx.Client(base_url=url) as client:
            answers = [client.post("/predict", content=path.read_bytes()) for path in paths]
        assert all(answer.status_code == 200 for answer in answers)
        return [answer.json() for answer in answers]
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()
