import json
import shutil
import subprocess
import sys
import time

import msgspec
import pytest

from mlstack import files
from mlstack.config import load
from mlstack.launch.plan import PlanOptions, plan
from mlstack.launch.supervise import LOCK
from mlstack.records.layout import Layout
from mlstack.records.run import (
    SPEC,
    EpochEnded,
    Finished,
    Reading,
    Started,
    Stopped,
    append_event,
)
from mlstack.train import store, view


def mlstack(project, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "mlstack", "train", *arguments],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )


def make_run(project, *, finished=True, epochs=3, **overrides):
    """Plan a run and write the events of a training that never was."""
    spec = plan(load(project / "mlstack.yaml"), PlanOptions(overrides=overrides))
    folder = project / ".mlstack" / "runs" / spec.id
    append_event(folder, Started(run=spec.id, at=time.time()))
    for epoch in range(1, epochs + 1):
        append_event(
            folder,
            EpochEnded(
                run=spec.id,
                at=time.time(),
                epoch=epoch,
                epochs=epochs,
                step=epoch * 5,
                metrics={"train/loss": 2 / epoch, "val/loss": 2.5 / epoch, "val/acc": epoch / 4},
                best=epoch < 3,
            ),
        )
    if finished:
        end = Finished(
            run=spec.id, at=time.time(), step=15, epoch=epochs, metrics={"test/acc": 0.625}
        )
        append_event(folder, end)
    return spec


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory, project_maker):
    project = project_maker(tmp_path_factory.mktemp("runs") / "demo", images=120)
    first = make_run(project)
    second = make_run(project, **{"model.args.lr": 0.01, "train.epochs": 5})
    return project, first, second


@pytest.fixture(scope="module")
def untrained(tmp_path_factory, project_maker):
    return project_maker(tmp_path_factory.mktemp("untrained") / "demo", images=120)


def test_ls_lists_runs_with_their_best_value(two_runs):
    project, first, second = two_runs

    listed = json.loads(mlstack(project, "ls", "--json").stdout)["runs"]

    assert {row["id"] for row in listed} == {first.id, second.id}
    assert {row["value"] for row in listed} == {0.5}  # of epoch 2, the last one marked best
    assert {row["state"] for row in listed} == {"finished"}
    assert {row["dataset"] for row in listed} == {first.dataset.md5}


def test_ls_can_be_short_and_have_the_best_first(project):
    stopped = make_run(project, finished=False)
    good, short = make_run(project, epochs=2), make_run(project, epochs=1)
    other = make_run(project, **{"train.monitor": "val/loss"})

    def listed(*words):
        done = mlstack(project, "ls", *words, "--json")
        return [row["id"] for row in json.loads(done.stdout)["runs"]]

    *best, third, last = listed("--best")

    assert sorted(best) == sorted([good.id, stopped.id])  # 0.5 both; 0.25 comes after them
    assert (third, last) == (short.id, other.id)
    assert listed("--state", "stopped") == [stopped.id]
    assert listed("--limit", "1", "--best", "--state", "finished") == [good.id]
    assert f"val/loss {2.5 / 2:.4f}" in mlstack(project, "ls").stdout
    assert mlstack(project, "ls", "--state", "done").returncode == 2


def test_show_tells_where_a_run_comes_from(two_runs):
    project, first, _ = two_runs

    shown = mlstack(project, "show", first.id[-4:])

    assert shown.returncode == 0
    assert first.dataset.md5[:12] in shown.stdout
    assert first.code.commit[:9] in shown.stdout
    assert "0.5000 in epoch 2, 0.7500 at the end" in shown.stdout
    assert "test/acc" in shown.stdout


def test_compare_names_the_settings_that_differ_and_no_others(two_runs):
    project, first, second = two_runs

    compared = json.loads(mlstack(project, "compare", first.id, second.id, "--json").stdout)

    assert [d["name"] for d in compared["settings"]] == ["model.args.lr", "train.epochs"]
    assert compared["settings"][0]["values"] == ["0.003", "0.01"]
    assert compared["data"] == [f"same data, {first.dataset.md5[:8]}"]


def test_pages_are_whole_by_themselves_and_hold_the_curves(two_runs):
    project, first, second = two_runs

    mlstack(project, "show", first.id, "--html", "one.html")
    mlstack(project, "compare", first.id, second.id, "--html", "two.html")

    for name in ("one.html", "two.html"):
        page = (project / name).read_text()
        assert "<svg" in page
        assert "<polyline" in page
        assert "http" not in page
        assert "src=" not in page
        assert "@import" not in page


def test_an_unknown_run_is_named(two_runs):
    project, _, _ = two_runs

    failed = mlstack(project, "show", "nothing-like-it")

    assert failed.returncode == 3
    assert "no run fits" in failed.stderr
    assert "mlstack train ls" in failed.stderr


def test_the_index_is_made_anew_when_it_is_lost_or_damaged(two_runs):
    project, *_ = two_runs
    layout = Layout(project)
    before = store.rows(layout)

    layout.runs_db.write_bytes(b"not a database" * 500)
    after_damage = store.rows(layout)
    for file in layout.state.glob("runs.db*"):
        file.unlink()

    assert after_damage == before
    assert store.rows(layout) == before


def test_a_damaged_run_does_not_hide_the_others(project):
    good, bad = make_run(project), make_run(project)
    (project / ".mlstack/runs" / bad.id / SPEC).write_text("{")

    states = {row.id: row.state for row in store.rows(Layout(project))}

    assert states == {good.id: "finished", bad.id: "damaged"}


def test_a_run_whose_folder_is_gone_leaves_the_list(project):
    spec = make_run(project)
    store.rows(Layout(project))

    shutil.rmtree(project / ".mlstack/runs" / spec.id)

    assert store.rows(Layout(project)) == []


def test_a_run_whose_process_died_is_stopped_not_running(project):
    spec = make_run(project, finished=False)
    lock = project / ".mlstack/runs" / spec.id / LOCK

    with files.lock(lock, "the run"):
        alive = store.rows(Layout(project))[0].state
    dead = store.rows(Layout(project))[0]

    assert alive == "running"
    assert (dead.state, dead.problem) == ("stopped", "its process died")


def test_show_says_how_to_go_on_and_how_often_a_run_has_begun(project):
    spec = make_run(project, finished=False)
    folder = project / ".mlstack/runs" / spec.id
    append_event(folder, Started(run=spec.id, at=time.time(), attempt=2, step=10))
    append_event(folder, Stopped(run=spec.id, at=time.time(), step=12, reason="SIGTERM"))

    stopped = mlstack(project, "show").stdout
    append_event(folder, Finished(run=spec.id, at=time.time(), step=15, epoch=3, metrics={}))
    finished = mlstack(project, "show").stdout

    assert "stopped, 3 of 3 epochs, begun 2 times" in stopped
    assert f"mlstack train --resume {spec.id}" in stopped
    assert "--resume" not in finished


def test_a_finished_run_stays_finished_whatever_was_decoded_for_it_later(project):
    spec = make_run(project)
    folder = project / ".mlstack/runs" / spec.id
    reading = Reading(run=spec.id, at=time.time(), text="decoding images", done=1, total=2)
    append_event(folder, reading)

    (row,) = store.rows(Layout(project))

    assert (row.state, row.problem) == ("finished", "")


def test_a_run_that_somebody_goes_on_with_is_running_before_its_first_word(project):
    spec = make_run(project, finished=False)
    folder = project / ".mlstack/runs" / spec.id
    append_event(folder, Stopped(run=spec.id, at=time.time(), step=12, reason="SIGTERM"))

    with files.lock(folder / LOCK, "the run"):
        again = store.rows(Layout(project))[0].state
        second = mlstack(project, "--resume")
    after = store.rows(Layout(project))[0].state

    assert (again, after) == ("running", "stopped")
    assert second.returncode == 75 and f"run `{spec.id}` is being trained" in second.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nonsense"], 2, "not a subcommand"),
        (["--resume", "--epochs", "3"], 2, "cannot change by --epochs"),
        (["--resume"], 3, "no run that was cut short"),
        (["--gpus", "some"], 2, "neither a number nor `auto`"),
        (["--gpus", "99"], 6, "99 GPUs were asked for"),
        (["--on", "slurm", "--gpus", "2"], 2, "counts those of this machine"),
        (["--on", "moon"], 2, "none of local, ray, slurm"),
        (["--ranks", "7"], 2, "cannot be shared evenly by 7 ranks"),
        (["--from-run", "none"], 3, "no run fits"),
        (["compare", "one"], 2, "two runs or more"),
        (["show", "nowhere"], 3, "no run fits"),
        (["--set", "model.args.lr=nan"], 2, "model.args.lr: 'nan' is not a number"),
        (["--set", "model.args.width=[8]"], 2, "[8] is not a number, which `Net` asks for"),
    ],
)
def test_a_wrong_call_starts_nothing_and_says_why(untrained, arguments, code, words):
    done = mlstack(untrained, *arguments)

    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((untrained / ".mlstack").glob("runs/*"))


def test_a_file_where_the_runs_should_be_is_named(project):
    (project / ".mlstack").mkdir(exist_ok=True)
    (project / ".mlstack" / "runs").write_text("")

    done = mlstack(project)

    assert done.returncode == 6
    assert "there is a file where a folder must be" in done.stderr
    assert "bug" not in done.stderr


def test_data_that_is_not_snapshotted_is_refused_before_anything_starts(project):
    (project / "data/digits/images/0000.png").write_bytes(b"changed")

    done = mlstack(project)

    assert done.returncode == 3
    assert "mlstack version snapshot" in done.stderr
    assert not (project / ".mlstack" / "runs").exists()


def test_going_on_with_changed_data_or_code_is_refused(project):
    spec = make_run(project, finished=False)
    (project / "my_project" / "model.py").write_text("# changed\n")

    code_changed = mlstack(project, "--resume", spec.id)
    (project / "data/digits/images/0000.png").write_bytes(b"changed")
    data_changed = mlstack(project, "--resume", spec.id)

    assert code_changed.returncode == 2
    assert "the code has changed" in code_changed.stderr
    assert data_changed.returncode == 3
    assert "the data in `data/digits` has changed" in data_changed.stderr


def test_a_finished_run_cannot_go_on(project):
    spec = make_run(project)

    done = mlstack(project, "--resume", spec.id)

    assert done.returncode == 2
    assert f"mlstack train --from-run {spec.id}" in done.stderr


def test_sparklines_show_the_way_of_a_metric():
    assert view.sparkline([1.0, 2.0, 3.0])[0] != view.sparkline([1.0, 2.0, 3.0])[2]
    assert len(view.sparkline([1.0, float("nan"), 3.0])) == 3
    assert view.sparkline([1.0]) == ""


def test_help_loads_nothing_heavy():
    script = (
        "import sys; from mlstack.train import command;"
        "heavy = ('torch', 'pydantic', 'rich', 'pyarrow', 'msgspec');"
        "print([name for name in heavy if name in sys.modules])"
    )

    loaded = subprocess.check_output([sys.executable, "-c", script], text=True)

    assert loaded.strip() == "[]"


def test_every_result_goes_through_json(two_runs):
    project, first, _ = two_runs

    shown = json.loads(mlstack(project, "show", first.id, "--json").stdout)

    assert shown["ok"]
    assert msgspec.convert(shown["epochs"][0], EpochEnded).epoch == 1
