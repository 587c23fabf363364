"""A mapping given by `--set` or the environment replaces the one in the file."""

from pathlib import Path

from mlstack.config import load


def test_an_empty_mapping_empties_the_one_in_the_file(project: Path):
    path = project / "mlstack.yaml"

    assert load(path).config.tune.space
    assert load(path, sets=("tune.space={}",)).config.tune.space == {}
    assert load(path, sets=("gates.validation={}",)).config.gates.validation == {}


def test_a_single_value_leaves_its_neighbours(project: Path):
    loaded = load(project / "mlstack.yaml", sets=("model.args.lr=0.5",))

    assert loaded.config.model.args == {"width": 16, "lr": 0.5, "channels": 1}
