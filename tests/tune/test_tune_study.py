"""Optuna behind our door: every sampler and pruner searches, a crash loses no trial."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlstack.config.train_sections import Choice, Dimension, IntRange, LogUniform, Uniform
from mlstack.errors import ConfigError, DataError
from mlstack.tune import space as spaces
from mlstack.tune import study as studies
from mlstack.tune.results import StudySpec
from mlstack.tune.study import Search

SPACE: dict[str, Dimension] = {
    "model.args.lr": LogUniform(log_uniform=(1e-4, 1e-1)),
    "model.args.width": Choice(choice=[8, 16, 32]),
    "model.args.hidden": Choice(choice=[[64], [64, 32]]),
}


def spec(**changed: Any) -> StudySpec:
    """Describe a study."""
    given = {"sampler": "tpe", "pruner": "median", "monitor": "val/acc", "mode": "max"} | changed
    space = spaces.to_json(given.pop("space", SPACE))
    return StudySpec(name="s", created="", space=space, epochs=9, seed=17, **given)


def search_on(search: Search, trials: int) -> None:
    """Run trials whose curves rise to a height that depends on the settings alone."""
    for _ in range(trials):
        asked = search.ask()
        if asked is None:
            return
        height = asked.parameters["model.args.width"] / 32
        search.started(asked.number, f"run-{asked.number}")
        if any(search.report(asked.number, epoch, height * epoch / 9) for epoch in range(1, 9)):
            search.pruned(asked.number)
        else:
            search.finished(asked.number, height)


@pytest.mark.parametrize("sampler", ["tpe", "random"])
@pytest.mark.parametrize("pruner", ["none", "median", "asha", "hyperband"])
def test_every_sampler_and_pruner_finds_the_best_choice(
    tmp_path: Path, sampler: str, pruner: str
) -> None:
    search = studies.create(tmp_path / "s.journal", spec(sampler=sampler, pruner=pruner), 12)

    search_on(search, 12)

    best = search.best()
    assert best is not None and best.parameters["model.args.width"] == 32
    assert search.done() == 12 and best.run == f"run-{best.number}"
    assert all(row.parameters["model.args.hidden"] in ([64], [64, 32]) for row in search.rows())


FULL = """
import resource, signal, sys
from pathlib import Path
from mlstack.tune import study
sys.path.insert(0, sys.argv[2])
from test_tune_study import spec
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
study.create(Path(sys.argv[1]), spec(), 12)
"""


def test_a_study_for_which_there_is_no_room_leaves_no_half_journal(tmp_path: Path) -> None:
    path = tmp_path / "s.journal"
    words = [sys.executable, "-c", FULL, str(path), str(Path(__file__).parent)]

    done = subprocess.run(words, capture_output=True, text=True, check=False)

    assert "File too large" in done.stderr
    assert not path.exists()


def test_hopeless_trials_are_pruned(tmp_path: Path) -> None:
    search = studies.create(tmp_path / "s.journal", spec(), 20)

    search_on(search, 20)

    assert any(row.state == "pruned" and row.epochs < 8 for row in search.rows())


def test_a_grid_is_tried_once_each_and_then_over(tmp_path: Path) -> None:
    space = {
        "model.args.width": Choice(choice=[8, 32]),
        "train.batch_size": IntRange(int_range=(1, 3)),
    }
    search = studies.create(tmp_path / "s.journal", spec(sampler="grid", space=space), 99)

    search.want(99)
    search_on(search, 99)

    assert (search.done(), search.wanted()) == (6, 6)
    points = [tuple(row.parameters.values()) for row in search.rows()]
    assert sorted(points) == [(w, b) for w in (8, 32) for b in (1, 2, 3)]


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp"])
def test_no_settings_are_tried_twice_and_a_space_that_is_used_up_ends_the_search(
    tmp_path: Path, sampler: str
) -> None:
    space: dict[str, Dimension] = {
        "model.args.width": Choice(choice=[8, 32, 8]),
        "model.args.hidden": Choice(choice=[[64], None]),
        "train.batch_size": IntRange(int_range=(1, 3)),
    }
    path = tmp_path / "s.journal"
    search = studies.create(path, spec(sampler=sampler, pruner="none", space=space), 99)
    search.propose({"model.args.width": 8, "model.args.hidden": [64], "train.batch_size": 2})

    search.want(99)
    search_on(search, 7)
    broken_off = search.ask()
    again = studies.reopen(path, 99)
    again.recover(lambda run: None)
    search_on(again, 99)

    assert broken_off is not None and (again.done(), again.wanted()) == (12, 12)
    points = [str(row.parameters) for row in again.rows() if row.state == "finished"]
    assert len(set(points)) == 12
    assert again.rows()[0].parameters["train.batch_size"] == 2  # what was proposed came first


def test_a_space_of_many_settings_is_searched_and_only_its_grid_refused() -> None:
    many: dict[str, Dimension] = {
        f"model.args.a{i}": Uniform(uniform=(0.0, 1.0)) for i in range(40)
    }

    spaces.check(many, "tpe")

    with pytest.raises(ConfigError, match=r"its grid has [0-9,]+ points"):
        spaces.check(many, "grid")


def test_a_trial_of_a_dead_process_is_tried_again_with_the_same_settings(tmp_path: Path) -> None:
    path = tmp_path / "s.journal"
    search = studies.create(path, spec(), 5)
    search_on(search, 1)
    lost = search.ask()
    assert lost is not None
    with path.open("ab") as stream:
        stream.write(b'{"op_code": 4, "cut o')  # the process dies while it writes

    again = studies.reopen(path, 5)
    recovered = again.recover(lambda run: None)
    asked = again.ask()

    assert recovered == 1 and asked is not None
    assert asked.parameters == lost.parameters and asked.number != lost.number
    assert [row.state for row in again.rows()] == ["finished", "interrupted", "running"]
    assert again.done() == 1


def test_a_trial_whose_run_had_finished_keeps_its_value_when_the_search_was_stopped(
    tmp_path: Path,
) -> None:
    search = studies.create(tmp_path / "s.journal", spec(), 5)
    asked = [search.ask(), search.ask()]
    for one in asked:
        search.started(one.number, f"run-{one.number}")
        for epoch, value in enumerate((0.5, 0.9, 0.7), start=1):
            search.report(one.number, epoch, value)

    again = studies.reopen(tmp_path / "s.journal", 5)
    recovered = again.recover({"run-0": 0.98}.get)
    once_more = again.recover({}.get)  # as a resume after an interruption that was noted

    finished, interrupted, waiting = again.rows()
    assert (recovered, once_more) == (1, 1)
    assert (finished.state, finished.value) == ("finished", 0.98)
    assert (interrupted.state, interrupted.value) == ("interrupted", 0.9)  # the best so far
    assert waiting.state == "waiting"
    assert waiting.parameters == interrupted.parameters


def test_a_search_that_goes_on_draws_new_points(tmp_path: Path) -> None:
    path = tmp_path / "s.journal"
    search_on(studies.create(path, spec(sampler="random"), 3), 3)

    search_on(studies.reopen(path, 6), 3)

    rows = studies.read(path).rows()
    assert len({row.parameters["model.args.lr"] for row in rows}) == 6


def test_what_matters_comes_first_in_importance(tmp_path: Path) -> None:
    search = studies.create(tmp_path / "s.journal", spec(sampler="random", pruner="none"), 30)

    search_on(search, 30)

    assert next(iter(search.importance())) == "model.args.width"


def test_pbt_and_a_damaged_journal_are_refused(tmp_path: Path) -> None:
    broken = tmp_path / "s.journal"
    broken.write_text("{}\n")

    with pytest.raises(ConfigError, match="not built yet"):
        studies.create(tmp_path / "p.journal", spec(pruner="pbt"), 3)
    with pytest.raises(DataError, match="not a whole journal"):
        studies.read(broken)
    assert not (tmp_path / "p.journal").exists()


def test_a_space_that_cannot_be_searched_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"`data\.split\.train` is not a setting of a run"):
        spaces.check({"data.split.train": Uniform(uniform=(0, 1))}, "tpe")
    with pytest.raises(ConfigError, match="nothing to search"):
        spaces.check({}, "tpe")
