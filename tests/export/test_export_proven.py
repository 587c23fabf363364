"""Gates end to end: golden examples, an own column, the live package, those not asked."""

import json
import shutil
from pathlib import Path

import planted
import pyarrow as pa
import pytest
import torch
from export_runs import RUN, finish, mlstack, packages, write_run

from mlstack.records import base, dataset, package, run

pytestmark = pytest.mark.slow
WORSE = "20260102-030409-wors"
EASY = ("--set", "gates={}")


def gates_of(project: Path, *arguments: str) -> dict[str, dict]:
    """Export, and give the gates of what was packed by their names."""
    done = mlstack(project, "export", *arguments, *EASY, "--json")
    assert done.code == 0, done.out + done.err
    return {gate["name"]: gate for gate in done.json["gates"]}


def red_of(project: Path, *arguments: str) -> dict[str, str]:
    """Have an export refused; give what each red gate says."""
    done = mlstack(project, "export", *arguments, "--json")
    assert done.code == 4, done.out + done.err
    return {entry["key"]: entry["problem"] for entry in done.json["error"]["errors"]}


@pytest.mark.parametrize("label", ["8", "0"])
def test_a_golden_example_that_is_answered_otherwise_stops_the_export(
    trained: Path, label: str
) -> None:
    shutil.copy(trained / "data/digits/images/0000.png", trained / "zero.png")
    shutil.copy(trained / "data/digits/images/0001.png", trained / "one.png")
    (trained / "golden.jsonl").write_text(
        f'{{"file": "one.png", "label": "1"}}\n{{"file": "zero.png", "label": "{label}"}}\n'
    )
    wanted = ("--set", "gates={functionality: golden.jsonl}")

    if label == "0":  # the same example, rightly told
        done = mlstack(trained, "export", *wanted, "--json")
        assert done.code == 0, done.out + done.err
        (gate,) = [g for g in done.json["gates"] if g["name"] == "functionality max"]
        assert (gate["measured"], gate["passed"]) == (0, True)
        return
    red = red_of(trained, *wanted)

    assert list(red) == ["functionality max"]
    assert red["functionality max"].endswith("measured 1, limit 0 (zero.png: 0, not 8)")
    assert packages(trained) == []


def test_the_floor_of_a_slice_of_an_own_column_stops_the_export(trained: Path) -> None:
    wrong = mislabel_a_site(trained, 6)
    floor = "gates={slices: [{column: site, metric: acc, min: 0.5}]}"

    red = red_of(trained, "--set", floor)

    assert list(red) == ["acc by site min"]
    assert f"lowest: site south, {wrong} examples" in red["acc by site min"]
    assert packages(trained) == []
    low = floor.replace("0.5", "0")
    assert mlstack(trained, "export", "--set", low, "--quiet").out == "models/my_project/1\n"


def mislabel_a_site(project: Path, count: int) -> int:
    """Put so many examples of the test part into the site `south`, each with another label."""
    source = project / "data/digits"
    table = project / ".mlstack/runs" / RUN / dataset.EXAMPLES
    rows = dataset.read_examples(table).to_pylist()
    for row in rows:
        row["path"] = str(source / "images" / Path(row["path"]).name)
    south = [row for row in rows if row["split"] == "test"][:count]
    for row in south:
        row["target"] = (row["target"] + 1) % 10
        row["label"] = str(row["target"])
    dataset.write_examples(table, pa.Table.from_pylist(rows, schema=dataset.EXAMPLES_SCHEMA))
    names = {row["path"] for row in south}
    labels = dataset.read_labels(source / dataset.LABELS)
    sites = ["south" if str(source / p) in names else "north" for p in labels["path"].to_pylist()]
    dataset.write_labels(source / dataset.LABELS, labels.append_column("site", pa.array(sites)))
    return len(names)


def test_a_model_that_is_worse_than_the_live_one_is_not_packed(trained: Path) -> None:
    assert gates_of(trained)["no worse than live"]["detail"] == "not asked: no package is live yet"
    base.write(trained / "models/my_project/live.json", package.Live(live=1))
    before = packages(trained)
    worsen(trained)

    red = red_of(trained, WORSE, *EASY)

    assert list(red) == ["no worse than live"]
    assert "examples of the test part" in red["no worse than live"]
    assert packages(trained) == before
    off = mlstack(trained, "export", WORSE, "--set", "gates={live: off}", "--quiet")
    assert off.out == "models/my_project/2\n", off.err


def worsen(project: Path) -> None:
    """Add a run of the same data whose last layer has lost three classes."""
    folder = write_run(project, WORSE)
    given = torch.load(project / ".mlstack/runs" / RUN / run.CHECKPOINTS / run.BEST)
    bias = [name for name, value in given["state_dict"].items() if value.shape == (10,)][-1]
    given["state_dict"][bias][:3] -= 100
    torch.save(given, folder / run.CHECKPOINTS / run.BEST)
    finish(folder)


def test_a_live_package_of_other_classes_is_not_compared_and_the_gate_says_so(
    trained: Path,
) -> None:
    gates_of(trained)
    base.write(trained / "models/my_project/live.json", package.Live(live=1))
    live = trained / "models/my_project/1"
    for name in ("signature", "golden"):
        place = live / f"mlstack/{name}.json"
        record = json.loads(place.read_text())
        for one in record.get("examples", []):
            one["prediction"] = f"digit {one['prediction']}"
        if name == "signature":
            record["classes"] = [f"digit {known}" for known in record["classes"]]
        place.write_text(json.dumps(record))
    planted.sign(live)

    found = gates_of(trained)

    assert found["no worse than live"]["passed"]
    assert found["no worse than live"]["detail"] == (
        "not asked: package 1 is live and has other classes"
    )


def test_a_data_module_that_says_nothing_of_its_files_is_exported_and_the_gate_says_so(
    trained: Path,
) -> None:
    code = trained / "my_project/data.py"
    code.write_text(code.read_text().replace("self.input_spec", "self.spec"))

    found = gates_of(trained)

    assert found["preprocessing min"]["passed"]
    assert found["preprocessing min"]["detail"].startswith(
        "not asked: the data module has no `input_spec`"
    )
    card = (trained / "models/my_project/1/README.md").read_text()
    assert "not asked: the data module has no `input_spec`" in card
    assert mlstack(trained, "export", "verify").code == 0
