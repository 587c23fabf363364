"""`mlstack train evaluate`: what it says is what scikit-learn says of the same answers."""

import json
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from fake_gpus import gpus_table, lease, with_driver
from msgspec import structs
from projects import make_project, write_pointer
from sklearn import metrics

from mlstack.config import load
from mlstack.launch.dataset import hash_source
from mlstack.launch.gpus import FakeGpus
from mlstack.launch.leases import overview
from mlstack.launch.plan import PlanOptions, plan
from mlstack.records import base, dataset
from mlstack.records.evaluation import Evaluation
from mlstack.records.run import SPEC, Finished, RunSpec, append_event
from mlstack.train import evaluate


def mlstack(root, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "mlstack", *words]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def with_cameras(root) -> None:
    """Give the labels a column that makes slices, and snapshot them."""
    path = root / "data" / "digits" / dataset.LABELS
    table = dataset.read_labels(path)
    cameras = ["left" if number % 3 else "right" for number in range(table.num_rows)]
    dataset.write_labels(path, table.append_column("camera", pa.array(cameras)))
    write_pointer(root / "data" / "digits")
    subprocess.run(["git", "commit", "-qam", "cameras"], cwd=root, check=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A project with one run that is over: weights as they were drawn."""
    root = make_project(tmp_path_factory.mktemp("evaluate") / "demo")
    with_cameras(root)
    spec = plan(load(root / "mlstack.yaml"), PlanOptions())
    folder = root / ".mlstack" / "runs" / spec.id
    sys.path.insert(0, str(root))
    try:
        from my_project.model import Net
    finally:
        sys.path.remove(str(root))
    torch.manual_seed(1)
    (folder / "checkpoints").mkdir()
    weights = {"state_dict": Net(width=16, lr=3e-3, channels=1).state_dict()}
    torch.save(weights, folder / "checkpoints" / "best.ckpt")
    append_event(folder, Finished(run=spec.id, at=time.time(), step=1, epoch=1, metrics={}))
    return root, folder


@pytest.mark.slow
def test_a_run_is_measured_by_class_by_slice_and_by_example(finished) -> None:
    root, folder = finished

    done = mlstack(root, "train", "evaluate", "--json")

    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)["evaluation"]
    answers = pq.read_table(folder / "answers.parquet").to_pylist()
    examples = [one for one in pq.read_table(folder / "examples.parquet").to_pylist()]
    tested = [one for one in examples if one["split"] == "test"]
    assert [one["path"] for one in answers] == [one["path"] for one in tested]
    truth = [one["label"] for one in answers]
    predicted = [one["prediction"] for one in answers]
    assert truth == [one["label"] for one in tested]
    assert said["examples"] == len(tested) == 30
    assert said["metrics"]["acc"] == pytest.approx(metrics.accuracy_score(truth, predicted))
    report = metrics.classification_report(truth, predicted, output_dict=True, zero_division=0)
    assert said["metrics"]["f1"] == pytest.approx(report["macro avg"]["f1-score"])
    for one in said["classes"]:
        assert one["recall"] == pytest.approx(report[one["name"]]["recall"])
        assert one["precision"] == pytest.approx(report[one["name"]]["precision"])
    for one in said["slices"]:
        inside = [a for a, t in zip(answers, tested, strict=True) if t["camera"] == one["value"]]
        right = [a["label"] == a["prediction"] for a in inside]
        assert (one["column"], one["examples"]) == ("camera", len(inside))
        assert one["acc"] == pytest.approx(np.mean(right))
    assert {one["value"] for one in said["slices"]} == {"left", "right"}
    assert mlstack(root, "train", "show").returncode == 0


def test_a_run_that_is_not_over_is_refused(finished) -> None:
    root, _ = finished
    spec = plan(load(root / "mlstack.yaml"), PlanOptions())

    done = mlstack(root, "train", "evaluate", spec.id)

    assert done.returncode == 3
    assert "only a finished run is measured" in done.stderr


def test_answers_in_an_order_of_their_own_make_no_slices(finished) -> None:
    root, folder = finished
    answered = of(root, folder, lambda rows: rows[::-1])

    found = evaluate._judge(answered)

    assert isinstance(found, Evaluation)
    assert found.metrics["acc"] == 1
    assert found.slices == []
    assert "an order of its own" in found.notes[-1]


def test_answers_in_the_order_of_the_examples_make_slices(finished) -> None:
    root, folder = finished
    answered = of(root, folder, lambda rows: rows)

    found = evaluate._judge(answered)

    assert {(one.column, one.acc) for one in found.slices} == {("camera", 1.0)}
    assert found.notes == []


def test_changed_data_is_noted(finished) -> None:
    root, folder = finished
    answered = of(root, folder, lambda rows: rows)
    (root / "data" / "digits" / "new.png").write_bytes(b"x")

    found = evaluate._judge(answered)
    (root / "data" / "digits" / "new.png").unlink()

    assert found.notes == ["the data in `data/digits` has changed since the run"]
    assert hash_source(load(root / "mlstack.yaml")).md5 == answered.spec.dataset.md5


def of(root, folder, order) -> evaluate.Answered:
    """Answer every test example rightly, in some order."""
    from mlstack.records.base import read
    from mlstack.records.run import RunSpec

    spec = read(folder / "run.json", RunSpec)
    examples = dataset.read_examples(folder / "examples.parquet")
    tested = examples.filter(pa.compute.equal(examples["split"], "test"))
    targets = order(tested["target"].to_numpy().astype(np.int64))
    return evaluate.Answered(spec, "test", tested, np.eye(10)[targets] * 9, targets)


def test_a_table_is_sliced_by_its_columns_of_words(tmp_path) -> None:
    folder = tmp_path / "data" / "t"
    folder.mkdir(parents=True)
    rows = [
        {"label": "a" if n % 2 else "b", "site": f"s{n % 3}", "size": n / 7, "old": n % 4 == 0}
        for n in range(40)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "table.parquet")
    examples = pa.table(
        {
            "path": [str(folder / "table.parquet")] * 10,
            "label": ["a"] * 10,
            "target": pa.array([0] * 10, pa.int32()),
            "split": ["test"] * 10,
            "row": pa.array(range(5, 15), pa.int64()),
        }
    )
    spec = type("Spec", (), {"config": {"data": {"label": "label"}}})

    found = dict(evaluate._columns(spec, examples))

    assert found == {
        "site": [f"s{n % 3}" for n in range(5, 15)],
        "old": [str(n % 4 == 0).lower() for n in range(5, 15)],
    }


@pytest.fixture
def on_a_gpu(finished):
    """That run, as if it had been trained on a GPU."""
    root, folder = finished
    spec = base.read(folder / SPEC, RunSpec)
    base.write(folder / SPEC, structs.replace(spec, gpus=[0]))
    yield root, folder
    base.write(folder / SPEC, spec)


def test_who_measures_waits_in_order_for_a_gpu_that_others_use(on_a_gpu, tmp_path) -> None:
    root, folder = on_a_gpu
    environment, table = with_driver(tmp_path, "Faked"), gpus_table(tmp_path)
    words = [sys.executable, "-m", "mlstack", "train", "evaluate"]
    with lease(1, "run a", machine=FakeGpus("Faked"), table=table):
        refused = subprocess.run(
            words, cwd=root, env=environment, capture_output=True, text=True, check=False
        )
        waiting = subprocess.Popen(
            [*words, "--wait"], cwd=root, env=environment, stderr=subprocess.PIPE, text=True
        )
        first = waiting.stderr.readline()
        in_the_queue = overview(table)[1]
    _, later = waiting.communicate()

    assert refused.returncode == 75
    assert "used by run a (process" in refused.stderr and "--wait" in refused.stderr
    assert first.startswith("waiting for GPUs: 0 of 1 are free, number 1 in the queue")
    assert [one.what for one in in_the_queue] == [f"evaluating run `{folder.name}`"]
    assert "CUDA" in later  # it went on with the GPU, which is not there
    assert overview(table) == ([], [])
