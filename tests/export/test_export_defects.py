"""Planted defects are caught: a part of the corpus in `planted`; the benchmark plants all of it."""

import shutil
from pathlib import Path

import msgspec
import onnx
import pytest
from export_runs import RUN, copy_project, mlstack
from planted import CODE, GRAPH, PACKAGE
from planting import Bench, build, opened, value

from mlstack.errors import GateError
from mlstack.export import ask, divided
from mlstack.export.handover import MODEL_FP32
from mlstack.records import base, dataset, run

SAMPLE = (
    "a reshape with the batch baked in",
    "right at one batch size only",
    "two classes exchanged in the graph",
    "weights in BF16",
    "overflows on white images",
    "asks for 32 GiB",
    "unfolds to 2,000,000,000,000 nodes",
    "calls functions 3,000 deep",
)


@pytest.fixture(scope="module")
def bench(trained_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    root = copy_project(trained_once, tmp_path_factory.mktemp("bench"))
    return build(root, tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="module")
def package(trained_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = copy_project(trained_once, tmp_path_factory.mktemp("sound"))
    done = mlstack(root, "export", "--set", "gates={}", "--quiet")
    assert done.code == 0, done.err
    return root / done.out.strip()


def test_the_corpus_has_more_than_forty_kinds_of_defects() -> None:
    assert len(CODE) + len(GRAPH) + len(PACKAGE) > 40


@pytest.mark.slow
def test_the_graph_without_a_defect_is_green(bench: Bench) -> None:
    assert bench.red(lambda model: None) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLE)
def test_a_defect_in_the_graph_is_a_red_gate(bench: Bench, name: str) -> None:
    assert bench.red(GRAPH[name]) != []


def test_int8_is_calibrated_with_the_same_examples_each_time(bench: Bench, tmp_path: Path) -> None:
    again = value(ask.build(bench.order, tmp_path))

    first, second = bench.built.calibration, again.calibration
    assert first is not None
    assert second is not None
    assert Path(first.file).read_bytes() == Path(second.file).read_bytes()
    assert first.shape[0] == second.shape[0] == 256


@pytest.mark.slow
def test_a_graph_that_ends_the_process_that_measures_it_is_a_red_gate(bench: Bench) -> None:
    with pytest.raises(GateError) as caught:
        bench.measured(GRAPH["ends the process that opens it"])

    (red,) = caught.value.mistakes
    assert red.key == "runs"
    assert "SIGFPE" in red.problem


@pytest.mark.slow
def test_a_graph_that_ends_the_process_that_times_it_is_a_red_gate(bench: Bench) -> None:
    model = onnx.load(bench.work / MODEL_FP32)
    GRAPH["ends the process that opens it"](model)
    onnx.save(model, bench.work / "fatal.onnx")

    with pytest.raises(GateError) as caught:
        value(ask.race(bench.order, bench.work, [MODEL_FP32, "fatal.onnx"], bench.built))

    assert "SIGFPE" in caught.value.mistakes[0].problem


@pytest.mark.slow
def test_another_format_that_changes_the_model_is_red(bench: Bench) -> None:
    graphs = {}
    for name in ("weights in BF16", "two classes exchanged in the graph"):
        model = onnx.load(bench.work / MODEL_FP32)
        GRAPH[name](model)
        graphs[name] = bench.work / f"{name}.onnx"
        onnx.save(model, graphs[name])

    wanted = ask.Wanted("to_openvino", graphs)
    converted = value(ask.convert(bench.order, bench.work, bench.built, wanted))

    assert [one.problem for one in converted] == ["", ""]
    for one in converted:
        assert "parity max" in bench.judged(bench.work / one.files[0], "fp32"), one


@pytest.mark.slow
def test_a_package_that_ends_the_process_that_opens_it_is_told_from_a_bug(
    package: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(package, tmp_path / "1")
    PACKAGE["a graph that ends the process that opens it"](copy)

    done = mlstack(tmp_path, "export", "verify", str(copy), "--json")

    assert done.code == 4
    assert "was ended by SIGFPE" in done.json["error"]["problem"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("an example in train and test", "is in two parts of run"),
        ("targets of two classes exchanged", "stands for class"),
        ("names of two classes exchanged", "stands for class"),
    ],
)
def test_examples_that_are_not_those_of_the_run_are_refused(
    prepared: Path, name: str, words: str
) -> None:
    CODE[name](prepared)

    done = mlstack(prepared, "export")

    assert done.code == 3
    assert words in done.err


def test_other_counts_of_examples_than_the_run_had_are_refused(prepared: Path) -> None:
    spec = prepared / ".mlstack/runs" / RUN / run.SPEC
    text = spec.read_text()
    assert '"split": {}' in text
    spec.write_text(text.replace('"split": {}', '"split": {"train": 900, "val": 1}'))

    done = mlstack(prepared, "export")

    assert done.code == 3
    assert "had 900 train, 1 val; its examples now are" in done.err


def test_a_run_without_a_test_part_has_the_examples_that_it_had(prepared: Path) -> None:
    folder = prepared / ".mlstack/runs" / RUN
    table = dataset.read_examples(folder / dataset.EXAMPLES)
    parts = ["val" if part == "test" else part for part in table["split"].to_pylist()]
    place = table.schema.get_field_index("split")
    dataset.write_examples(folder / dataset.EXAMPLES, table.set_column(place, "split", [parts]))
    spec = base.read(folder / run.SPEC, run.RunSpec)
    counts = {part: parts.count(part) for part in ("train", "val", "test")}

    had = msgspec.structs.replace(spec.dataset, split=counts)

    assert counts["test"] == 0
    divided.check(msgspec.structs.replace(spec, dataset=had), folder)


@pytest.mark.slow
def test_a_sound_package_opens(package: Path) -> None:
    assert opened(package) == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PACKAGE))
def test_a_package_with_a_defect_does_not_open(package: Path, tmp_path: Path, name: str) -> None:
    copy = shutil.copytree(package, tmp_path / "folder" / "1")

    PACKAGE[name](copy)

    assert opened(copy) != ""
