"""The small mobile network of the image template: one line of config, from training to answers."""

from pathlib import Path

import pytest
from export_runs import mlstack
from projects import commit_all, make_project

PLAIN, MOBILE = "class: my_project.model:Net", "class: my_project.mobile:Mobile"
SHORT = ("--set", "train.epochs=7", "--set", "train.batch_size=32")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_one_line_makes_it_a_mobile_network_that_trains_packs_in_int8_and_answers(
    tmp_path: Path,
) -> None:
    root = make_project(tmp_path / "digits", images=1100)
    config = root / "mlstack.yaml"
    config.write_text(config.read_text().replace(PLAIN, MOBILE))
    commit_all(root)

    trained = mlstack(root, "train", *SHORT, "--json")
    exported = mlstack(root, "export", "--precision", "int8", "--json")

    assert trained.code == 0, trained.err
    assert exported.code == 0, exported.out + exported.err
    rows = {row["precision"]: row for row in exported.json["variants"]}
    assert exported.json["precision"].startswith("int8-static")
    assert rows["fp32"]["red"] == []
    assert rows[exported.json["precision"]]["agreement"] >= 0.98
    picture = root / "data/digits/images/0000.png"
    answer = mlstack(root, "serve", "predict", str(picture), "--json")
    assert answer.code == 0, answer.out + answer.err
    (said,) = answer.json["predictions"]
    assert said["prediction"] == "0"
