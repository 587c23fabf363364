import json

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from mlstack.records import dataset
from mlstack.version import labelled, leaks


def rewrite(project, change) -> None:
    path = project / "data" / "digits" / dataset.LABELS
    rows = dataset.read_labels(path).to_pylist()
    dataset.write_labels(path, pa.Table.from_pylist(change(rows)))


def test_sound_data_passes_and_unlabeled_files_are_counted(project, answer) -> None:
    rewrite(project, lambda rows: rows[30:])

    said = answer("check")

    assert said["ok"]
    assert (said["labeled"], said["unlabeled"]) == (270, 30)


def test_every_fault_is_named_at_once(project, version) -> None:
    images = project / "data" / "digits" / "images"
    (images / "0000.png").unlink()
    (images / "0001.png").write_bytes((images / "0001.png").read_bytes()[:40])
    rewrite(
        project,
        lambda rows: [
            *rows,
            {"path": "images/extra.png", "label": "ten"},
            {"path": "images/twin.png", "label": "other"},
        ],
    )
    Image.new("L", (8, 8), 77).save(images / "extra.png")
    Image.new("L", (8, 8), 77).save(images / "twin.png")
    classes = [*"0123456789", "other", "never"]

    done = version("check", "--json", "--set", f"data.classes={json.dumps(classes)}")

    assert done.returncode == 3
    said = json.loads(done.stdout)
    problems = "\n".join(error["problem"] for error in said["error"]["errors"])
    assert "`images/0000.png` is labeled, but there is no such file" in problems
    assert "`images/0001.png`: " in problems
    assert "1 example has the label `ten`, which is not in `data.classes`" in problems
    assert "class `never` has 0 examples" in problems
    assert "class `other` has 1 example;" in problems
    assert "equal files with different labels" in problems
    hints = "\n".join(error["hint"] for error in said["error"]["errors"])
    assert "put it back, or type `mlstack label export --drop-missing`" in hints


def test_images_put_into_the_folder_of_a_class_are_named_with_what_labels_them(
    project, answer
) -> None:
    folder = project / "data" / "digits"
    (folder / "7").mkdir()
    Image.new("L", (8, 8), 77).save(folder / "7" / "new.PNG")

    notes = {one["name"]: one for one in answer("check")["notes"]}

    note = notes["unlabeled-files"]
    assert note["problem"] == "1 of 301 files have no label"
    assert "`mlstack label import data/digits` takes the names of their folders" in note["hint"]


def test_a_new_folder_beside_those_of_the_classes_may_be_a_class() -> None:
    labels = {"cat/1.png": "cat", "dog/1.png": "dog"}

    beside = labelled.how_to_label("data/x", [*labels, "cow/1.png"], labels)
    elsewhere = labelled.how_to_label("data/x", ["a/1.png", "a/2.png"], {"a/1.png": "cat"})
    loose = labelled.how_to_label("data/x", [*labels, "1.png"], labels)

    assert "`mlstack label import data/x`" in beside
    assert elsewhere == loose == "`mlstack label` shows them"


def test_copies_are_counted_and_what_training_does_with_them_is_said(project, answer) -> None:
    images = project / "data" / "digits" / "images"
    first = (images / "0000.png").read_bytes()
    label = dataset.read_labels(project / "data/digits/labels.parquet")["label"][0].as_py()
    for number in range(20):
        (images / f"twin{number}.png").write_bytes(first)
    rows = [{"path": f"images/twin{n}.png", "label": label} for n in range(20)]
    rewrite(project, lambda before: before + rows)

    kept = answer("check")
    allowed = answer("check", "--set", "data.checks.no_duplicates_across_splits=false")

    assert (
        "20 files are copies of others; training keeps equal files" in kept["notes"][0]["problem"]
    )
    assert "(test)" in allowed["notes"][0]["problem"] or "(val)" in allowed["notes"][0]["problem"]


def test_a_file_labeled_twice_and_an_empty_label_are_named(project, version) -> None:
    rewrite(project, lambda rows: [*rows, rows[0], {**rows[1], "label": ""}])

    done = version("check")

    assert done.returncode == 3
    assert "`images/0000.png` is labeled 2 times" in done.stderr
    assert "`images/0001.png` has an empty label" in done.stderr


def test_a_file_labeled_twice_in_labels_csv_is_named(project, version, answer) -> None:
    digits = project / "data" / "digits"
    (digits / "labels.parquet").unlink()
    rows = [f"images/{number:04d}.png,{number % 2}" for number in range(6)]
    odd = ["images/0000.png,1", "./images/0006.png,1", "images/0007.png,"]
    (digits / "labels.csv").write_text("\n".join(["path,label", *rows, *odd, ""]))

    done = version("check")

    assert done.returncode == 3
    assert "`images/0000.png` is labeled 2 times" in done.stderr
    assert "`images/0007.png` has an empty label" in done.stderr
    assert "no such file" not in done.stderr
    version("snapshot", "-m", "a table of labels")
    assert set(answer("log")["versions"][0]["classes"]) == {"0", "1"}


@pytest.mark.parametrize("content", [b"", b"PAR1 nonsense"])
def test_a_damaged_labels_file_is_an_error_without_a_traceback(project, version, content) -> None:
    (project / "data" / "digits" / dataset.LABELS).write_bytes(content)

    done = version("check")

    assert done.returncode == 3
    assert "labels.parquet" in done.stderr
    assert "Traceback" not in done.stderr


def test_rows_that_differ_in_their_class_alone_are_named_by_the_first_two() -> None:
    texts = [*(f"text {number}" for number in range(30)), "text 3", "text 4"]
    classes = [*["a", "b"] * 15, "a", "a"]

    (one,) = leaks.contradictions(pa.table({"text": texts}), classes)

    assert one.suspicion
    assert one.problem.startswith("1 row has another class")
    assert "row 4 is `b`, row 31 is `a`" in one.problem


@pytest.mark.parametrize(
    ("repeated", "is_tied", "hint"),
    [
        (2, True, "data.split.group_by"),
        (2, False, "no_duplicates_across_splits: true"),
        (50, True, None),
        (50, False, "no_duplicates_across_splits: true"),
    ],
)
def test_rows_that_only_an_id_tells_apart_get_a_hint_that_helps(
    repeated: int, is_tied: bool, hint: str | None
) -> None:
    calls = [*range(100), *range(repeated)]
    rows = pa.table({"calls": [n * 7 % 1000 for n in calls]})
    parts = np.array([0] * 100 + [1] * repeated)
    labels = np.array([n % 3 % 2 for n in calls])

    found = [*leaks.findings(leaks.Labeled(rows, labels, parts, is_tied))]

    named = [one.hint for one in found if one.name == "equal-rows-across-parts"]
    assert len(named) == (0 if hint is None else 1)
    assert all(hint in one for one in named)


def test_rows_of_few_values_may_have_any_class() -> None:
    wards = pa.table({"ward": ["a", "b", "c"] * 20})

    assert list(leaks.contradictions(wards, ["x", "y"] * 30)) == []
