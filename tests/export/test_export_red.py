"""Everything that must leave no package: red gates, planted defects, kills, and wrong calls."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from export_runs import RUN, finish, mlstack, packages, write_run

from mlstack import files
from mlstack.config import load
from mlstack.errors import DataError
from mlstack.export import api, view
from mlstack.export.order import Wish, order
from mlstack.launch import supervise
from mlstack.records import dataset, run

EASY = ("--set", "gates={}")


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def assert_nothing_left(project: Path) -> None:
    assert packages(project) == []
    assert list((project / ".mlstack/export/my_project").glob("work-*")) == []


def wait_for(folder: Path, pattern: str) -> None:
    until = time.monotonic() + 120
    while not list(folder.glob(pattern)):
        assert time.monotonic() < until, f"{pattern} never came"
        time.sleep(0.02)


def test_data_that_changed_since_the_run_is_noted_before_anything_is_built(prepared: Path) -> None:
    config = load(prepared / "mlstack.yaml")
    before = order(config, Wish()).notes
    labels = prepared / "data/digits/labels.parquet"
    dataset.write_labels(labels, dataset.read_labels(labels).slice(1))

    after = order(config, Wish()).notes
    asked = api.export(prepared / "mlstack.yaml", sets=(), wish=Wish())
    shown = view.draw(next(asked))
    asked.close()

    assert before == ()
    assert f"the data in `data/digits` has changed since run {RUN} was trained" in after[0]
    assert shown == f"note: {after[0]}"


@pytest.mark.slow
def test_a_red_gate_leaves_no_package_and_names_what_was_measured(trained: Path) -> None:
    done = mlstack(
        trained, "export", "--set", "gates.validation.test/acc.min=1.01", "--set", "gates.slices=[]"
    )

    assert done.code == 4
    assert "test/acc min: measured " in done.err
    assert "limit 1.01" in done.err
    assert "parity max" in done.err  # the green ones are shown, too
    assert done.out == ""
    assert_nothing_left(trained)


@pytest.mark.parametrize("is_there", [False, True])
@pytest.mark.parametrize("words", [("export",), ("train", "evaluate")])
def test_data_that_is_not_checked_out_is_brought_back_first(
    prepared: Path, words: tuple[str, ...], *, is_there: bool
) -> None:
    shutil.rmtree(prepared / "data/digits")
    if is_there:
        (prepared / "data/digits").mkdir()

    done = mlstack(prepared, *words)

    assert done.code == 3
    assert f"there is no data in `{prepared / 'data/digits'}`" in done.err
    assert "hint: type `mlstack version checkout HEAD`" in done.err


def test_a_run_whose_files_are_gone_is_refused_before_anything_heavy(prepared: Path) -> None:
    images = sorted((prepared / "data/digits/images").iterdir())
    for image in images[:2]:
        image.unlink()

    with pytest.raises(DataError) as found:
        order(load(prepared / "mlstack.yaml"), Wish())

    assert found.value.problem.startswith("2 files are gone that run")
    assert str(images[0]) in found.value.problem or str(images[1]) in found.value.problem
    assert "train again" in found.value.hint


@pytest.mark.slow
def test_a_data_module_that_scales_differently_is_caught(trained: Path) -> None:
    replace(
        trained / "my_project/data.py",
        "torch.from_numpy(images[places[rows]])",
        "torch.from_numpy(images[places[rows]] // 2)",
    )

    done = mlstack(trained, "export", *EASY, "--json")

    assert done.code == 4
    (red,) = done.json["error"]["errors"]
    assert red["key"] == "preprocessing min"
    assert "differ from the decoded raw file" in red["problem"]
    assert_nothing_left(trained)


@pytest.mark.slow
def test_a_model_that_answers_by_its_batch_is_caught(trained: Path) -> None:
    replace(
        trained / "my_project/model.py",
        "return self.body((x - 0.3) / 0.35)",
        "x = self.body((x - 0.3) / 0.35)\n        return x - x.mean(dim=0, keepdim=True)",
    )

    done = mlstack(trained, "export", *EASY, "--json")

    assert done.code == 4
    assert {"parity max", "batch invariance max"} <= {
        e["key"] for e in done.json["error"]["errors"]
    }
    assert_nothing_left(trained)


@pytest.mark.slow
def test_a_model_that_ignores_eval_mode_is_caught(trained: Path) -> None:
    replace(
        trained / "my_project/model.py",
        "return self.body((x - 0.3) / 0.35)",
        "return functional.dropout(self.body((x - 0.3) / 0.35))",
    )

    done = mlstack(trained, "export", *EASY)

    assert done.code == 4
    assert "at random" in done.err
    assert_nothing_left(trained)


@pytest.mark.slow
def test_other_weights_than_the_run_had_are_caught(trained: Path) -> None:
    folder = trained / ".mlstack/runs" / RUN
    finish(folder, **{"test/acc": 0.4})

    done = mlstack(trained, "export", *EASY, "--json")

    assert done.code == 4
    assert [e["key"] for e in done.json["error"]["errors"]] == ["checkpoint is the run's"]


@pytest.mark.slow
def test_code_that_no_longer_fits_the_checkpoint_is_named(trained: Path) -> None:
    replace(trained / "mlstack.yaml", "{width: 16", "{width: 8")
    run_file = trained / ".mlstack/runs" / RUN / "run.json"
    replace(run_file, '"width": 16', '"width": 8')

    done = mlstack(trained, "export")

    assert done.code == 2
    assert "does not fit `my_project.model:Net`" in done.err
    assert "code has changed" in done.err


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["work-*/val-inputs.raw", "work-*/measure.json"])
def test_a_killed_export_leaves_nothing_and_the_next_one_works(trained: Path, moment: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "mlstack", "export", *EASY],
        cwd=trained,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(trained / ".mlstack/export/my_project", moment)
    process.send_signal(signal.SIGKILL)
    process.wait()

    assert packages(trained) == []
    if "measure" not in moment:
        return
    (trained / "models/my_project/.1.tmp-0000").mkdir(parents=True)  # killed while packing
    done = mlstack(trained, "export", *EASY, "--quiet")
    assert done.code == 0, done.err
    assert done.out == "models/my_project/1\n"
    assert {p.split("/")[1] for p in packages(trained) if "/" in p} == {"1", "config.pbtxt"}
    assert list((trained / ".mlstack/export/my_project").glob("work-*")) == []


def test_sigterm_ends_the_worker_and_cleans_up(prepared: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "mlstack", "export", *EASY],
        cwd=prepared,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(prepared / ".mlstack/export/my_project", "work-*/build.json")
    process.terminate()

    assert process.wait(timeout=20) == 143
    assert_nothing_left(prepared)


def test_a_second_export_of_the_same_model_is_told_to_try_again(prepared: Path) -> None:
    with files.lock(prepared / ".mlstack/export/my_project/lock", "a test"):
        done = mlstack(prepared, "export", *EASY)

    assert done.code == 75
    assert "busy with exporting" in done.err


def test_only_finished_runs_are_exported(prepared: Path) -> None:
    folder = write_run(prepared, "20260102-030406-stop")
    run.append_event(folder, run.Started(run=folder.name, at=1.0))

    with files.lock(folder / supervise.LOCK, "the run"):
        running = mlstack(prepared, "export", "stop")
    died = mlstack(prepared, "export", "stop")
    run.append_event(folder, run.Stopped(run=folder.name, at=2.0, step=3, reason="Ctrl-C"))
    stopped = mlstack(prepared, "export", "stop")
    unknown = mlstack(prepared, "export", "nowhere")

    assert (running.code, died.code, stopped.code, unknown.code) == (3, 3, 3, 3)
    assert "is running" in running.err
    assert "is stopped" in died.err
    assert "mlstack train --resume 20260102-030406-stop" in stopped.err
    assert "mlstack train ls" in unknown.err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--precision", "int4"], 2, "there is no precision `int4`"),
        (["--precision", "fp16"], 2, "fp16 is for GPUs, and `export.target` is cpu"),
        (["--precision", "fp16", "--set", "export.target=arm"], 2, "`export.target` is arm"),
        (["--set", "export.quantize=fp16"], 2, "export.quantize: fp16 is for GPUs"),
        (["--budget", "size<5"], 2, "`size<5` is not a limit"),
        (["--set", "export.budget=ram<5MB"], 2, "export.budget: `ram` cannot be limited"),
        (["--format", "onxx"], 2, "there is no format `onxx`"),
        (["--format", "onnx,litert"], 6, "python3 -m venv .mlstack/litert && "),
        (["--set", "export.embed_preprocessing=false"], 2, "is not built yet"),
        (["--set", "gates.functionality=none.jsonl"], 2, "there is no file `none.jsonl`"),
        (["verify", "models/nothing/1"], 3, "there is no package"),
        (["verify"], 3, "there is no package of `my_project` yet"),
        (["verify", "my_project"], 3, "is not a model package"),
    ],
)
def test_wrong_calls_are_answered_at_once(
    prepared: Path, arguments: list[str], code: int, words: str
) -> None:
    done = mlstack(prepared, "export", *arguments)

    assert done.code == code
    assert words in done.err
    assert "Traceback" not in done.err


def test_a_wrong_line_of_golden_examples_is_named(prepared: Path) -> None:
    (prepared / "golden.jsonl").write_text('{"file": "mlstack.yaml", "label": "1"}\n{"file": 3}\n')

    done = mlstack(prepared, "export", "--set", "gates.functionality=golden.jsonl")

    assert done.code == 3
    assert "golden.jsonl:2" in done.err


def test_a_changed_checkpoint_is_refused(prepared: Path) -> None:
    folder = prepared / ".mlstack/runs" / RUN
    saved = run.CheckpointSaved(run=RUN, at=1.5, file="checkpoints/best.ckpt", step=9, sha256="00")
    run.append_event(folder, saved)
    finish(folder)

    done = mlstack(prepared, "export")

    assert done.code == 3
    assert "not the file that the run wrote" in done.err
