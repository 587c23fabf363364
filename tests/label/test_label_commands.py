import csv
import json
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from label_server import IMAGES, LABELED, answer, labels_of, run

from mlstack.label import store
from mlstack.label.store import Draft
from mlstack.records import dataset


def say(project: Path, *opinions: tuple[str, int, str]) -> None:
    """Let annotators label: (annotator, number of the image, label)."""
    drafts = [
        Draft(who, name(number), "label", label, seconds=2.0) for who, number, label in opinions
    ]
    store.append(project / ".mlstack" / "labels.db", drafts)


def name(number: int) -> str:
    return f"images/{number:04d}.png"


def problems(answered: dict) -> str:
    return "\n".join(mistake["problem"] for mistake in answered["error"]["errors"])


def test_export_merges_what_people_said_into_labels_parquet(half: Path) -> None:
    before = labels_of(half)
    other = "1" if before[name(0)] != "1" else "2"
    say(half, ("ann", 30, "4"), ("ann", 0, other), ("ann", 31, "5"), ("bob", 31, "6"))

    exported = answer(half, "label", "export")

    after = labels_of(half)
    assert after == before | {name(30): "4", name(0): other}
    assert (exported["new"], exported["changed"], exported["withdrawn"]) == (1, 1, 0)
    assert exported["tied"] == [name(31)]
    assert exported["rows"] == sum(exported["classes"].values()) == LABELED + 1
    assert list(after) == sorted(after)
    assert run(half, "label", "export", "--quiet").stdout == "data/digits/labels.parquet\n"


def test_export_keeps_other_columns_and_unchanged_bytes(half: Path) -> None:
    file = half / "data" / "digits" / dataset.LABELS
    table = dataset.read_labels(file)
    table = table.append_column("camera", pa.array(["left"] * table.num_rows))
    dataset.write_labels(file, table)
    say(half, ("ann", 30, "4"))

    answer(half, "label", "export")
    first = (file.stat().st_mtime_ns, file.read_bytes())
    answer(half, "label", "export")

    cameras = dataset.read_labels(file)["camera"].to_pylist()
    assert cameras == ["left"] * LABELED + [None]
    assert (file.stat().st_mtime_ns, file.read_bytes()) == first


def test_a_label_taken_back_after_its_export_is_withdrawn(half: Path) -> None:
    say(half, ("ann", 30, "4"))
    answer(half, "label", "export")
    store.append(half / ".mlstack" / "labels.db", [Draft("ann", name(30), "undo", undoes=1)])

    exported = answer(half, "label", "export")

    assert exported["withdrawn"] == 1
    assert name(30) not in labels_of(half)


def test_labels_of_files_that_are_gone_are_dropped_when_asked(half: Path) -> None:
    (half / "data" / "digits" / name(3)).unlink()
    say(half, ("ann", 30, "4"), ("ann", 31, "5"))
    (half / "data" / "digits" / name(31)).unlink()

    kept = answer(half, "label", "export")
    refused = answer(half, "label", "check", code=3)
    dropped = answer(half, "label", "export", "--drop-missing")

    assert (kept["rows"], kept["withdrawn"], kept["gone"]) == (LABELED + 1, 0, 1)
    assert "--drop-missing" in refused["error"]["errors"][0]["hint"]
    assert (dropped["rows"], dropped["withdrawn"], dropped["gone"]) == (LABELED, 1, 0)
    assert len(dropped["left_out"]) == 2
    assert {name(3), name(31)}.isdisjoint(labels_of(half))


def test_images_in_the_folder_of_a_class_are_labeled_by_its_name(half: Path) -> None:
    data = half / "data" / "digits"
    (data / "7").mkdir()
    for number in (30, 31):
        (data / name(number)).rename(data / "7" / f"{number}.PNG")
    say(half, ("ann", 32, "4"))
    (data / name(32)).rename(data / "7" / "32.png")
    store.append(half / ".mlstack" / "labels.db", [Draft("ann", "7/32.png", "label", "4")])

    imported = answer(half, "label", "import", "data/digits/7")
    again = answer(half, "label", "import", "data/digits/7")
    whole = answer(half, "label", "import", "data/digits", code=3)
    elsewhere = run(half, "label", "import", ".")
    answer(half, "label", "export")

    assert (imported["format"], imported["imported"], again["imported"]) == ("folder", 2, 0)
    after = labels_of(half)
    assert (after["7/30.PNG"], after["7/31.PNG"], after["7/32.png"]) == ("7", "7", "4")
    assert "`images` is not in data.classes" in problems(whole)
    assert elsewhere.returncode == 2
    assert "is not in the data folder" in elsewhere.stderr


def test_the_majority_decides(half: Path) -> None:
    say(half, ("ann", 30, "4"), ("bob", 30, "5"), ("carl", 30, "5"))

    answer(half, "label", "export")

    assert labels_of(half)[name(30)] == "5"


@pytest.mark.parametrize("kind", ["csv", "jsonl", "label-studio"])
def test_other_formats_come_back_as_they_went(half: Path, kind: str) -> None:
    images = half / "data" / "digits" / "images"
    first = sorted(images.iterdir())[0]
    first.rename(images.parent / ' a, "b"#c?d=e%25 .png')
    table = dataset.read_labels(images.parent / dataset.LABELS).to_pylist()
    table[0]["path"] = ' a, "b"#c?d=e%25 .png'
    dataset.write_labels(images.parent / dataset.LABELS, pa.Table.from_pylist(table))
    ending = {"label-studio": "json"}.get(kind, kind)
    out = f"out.{ending}"

    answer(half, "label", "export", "--format", kind, "--out", out)
    (half / "data" / "digits" / dataset.LABELS).unlink()
    classes = "data.classes=[" + ",".join(f"'{d}'" for d in range(10)) + "]"
    imported = answer(half, "label", "import", out, "--set", classes)
    answer(half, "label", "export", "--set", classes)

    assert imported["imported"] == LABELED
    assert len(labels_of(half)) == LABELED


def test_a_name_with_a_line_separator_is_imported(half: Path) -> None:
    """JSON may hold U+2028 as it is; a line of JSON lines ends at the newline alone."""
    name = "images/a\u2028b\x85c.png"
    images = half / "data" / "digits"
    shutil.copy(next((images / "images").iterdir()), images / name)
    (half / "out.jsonl").write_text(f'{{"path": "{name}", "label": "3"}}\n')

    assert answer(half, "label", "import", "out.jsonl")["imported"] == 1


def test_a_name_that_is_no_text_is_refused_by_every_command(half: Path) -> None:
    odd = os.fsencode(half / "data" / "digits" / "images") + b"/\xe9t\xe9.png"
    Path(os.fsdecode(odd)).write_bytes(b"")

    for words in ([], ["export"], ["stats"], ["check"]):
        done = run(half, "label", *words)

        assert done.returncode == 3
        assert "is no text in UTF-8" in done.stderr
        assert "rename it" in done.stderr


def test_import_takes_both_forms_of_label_studio(half: Path) -> None:
    tasks = [
        {
            "data": {"image": "/data/local-files/?d=data/digits/images/0040.png"},
            "annotations": [{"result": [{"type": "choices", "value": {"choices": ["7"]}}]}],
        },
        {"id": 2, "image": "data/digits/images/0041.png", "choice": "8"},
        {"data": {"image": "images/0042.png"}, "annotations": []},
    ]
    (half / "studio.json").write_text(json.dumps(tasks))

    imported = answer(half, "label", "import", "studio.json")
    again = answer(half, "label", "import", "studio.json")
    answer(half, "label", "export")

    assert (imported["imported"], again["imported"], again["unchanged"]) == (2, 0, 2)
    assert (labels_of(half)[name(40)], labels_of(half)[name(41)]) == ("7", "8")


def test_import_takes_what_prodigy_writes(half: Path) -> None:
    lines = [
        {"image": "/home/ann/digits/images/0040.png", "accept": ["7"], "answer": "accept"},
        {"image": "images/0041.png", "label": "8", "answer": "accept", "meta": {"n": 1}},
        {"image": "images/0042.png", "label": "8", "answer": "reject"},
        {"image": "images/0043.png", "accept": [], "answer": "ignore"},
        {"image": "data:image/png;base64,AAAA", "path": "images/0044.png", "accept": ["9"]},
    ]
    (half / "prodigy.jsonl").write_text("\n".join(map(json.dumps, lines)))

    imported = answer(half, "label", "import", "prodigy.jsonl")
    answer(half, "label", "export")

    assert imported["imported"] == 3
    labels = labels_of(half)
    assert [labels.get(name(n)) for n in range(40, 45)] == ["7", "8", None, None, "9"]


@pytest.mark.parametrize("file", ["two.json", "two.jsonl"])
def test_an_image_with_two_classes_is_refused_not_given_the_first(half: Path, file: str) -> None:
    chosen = {"value": {"choices": ["7", "8"]}}
    task = {"data": {"image": "images/0040.png"}, "annotations": [{"result": [chosen]}]}
    line = {"image": "images/0040.png", "accept": ["7", "8"]}
    (half / file).write_text(json.dumps([task] if file == "two.json" else line))

    done = run(half, "label", "import", file)

    assert done.returncode == 3
    assert "`images/0040.png` is `7` before, and `8` here" in done.stderr


def test_a_folder_to_write_to_and_a_name_of_nobody_are_exit_2(half: Path) -> None:
    folder = run(half, "label", "export", "--out", ".")
    nobody = [run(half, "label", "--annotator", who) for who in ("import", "x" * 65, "a\tb")]

    assert [done.returncode for done in (folder, *nobody)] == [2, 2, 2, 2]
    assert "--out: `.` is a folder" in folder.stderr
    assert all("is no name of a person" in done.stderr for done in nobody)


def test_a_wrong_row_is_named_and_nothing_is_imported(half: Path) -> None:
    rows = [("images/0040.png", "7"), ("images/9999.png", "7"), ("images/0041.png", "cat")]
    with (half / "rows.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("path", "label"), *rows])

    refused = answer(half, "label", "import", "rows.csv", code=3)
    kept = store.read_events(half / ".mlstack" / "labels.db")
    skipped = answer(half, "label", "import", "rows.csv", "--skip-invalid")

    assert "rows.csv:3: there is no image `images/9999.png`" in problems(refused)
    assert "rows.csv:4: `cat` is not in data.classes" in problems(refused)
    assert "--skip-invalid" in refused["error"]["hint"]
    assert '"8","9","cat"]` under data in mlstack.yaml' in refused["error"]["hint"]
    assert kept == []
    assert skipped["imported"] == 1
    assert len(skipped["refused"]) == 2


@pytest.mark.parametrize(
    ("file", "content", "code", "named"),
    [
        ("rows.csv", "name;class\n", 3, "rows.csv:1: needs the columns"),
        ("rows.jsonl", '{"path": "a"}\n', 3, "rows.jsonl:1: has no `label`"),
        ("rows.jsonl", '{"label": "a"}\n', 3, "rows.jsonl:1: has no `path`"),
        ("rows.json", "{}", 3, "list of tasks"),
        ("rows.json", '[{"data": 3}]', 3, "$[0].data"),
        ("rows.xlsx", "x", 2, "ending"),
        ("rows.csv", None, 2, "there is no file"),
    ],
)
def test_a_file_that_holds_no_labels_is_refused(
    half: Path, file: str, content: str | None, code: int, named: str
) -> None:
    if content is not None:
        (half / file).write_text(content)

    done = run(half, "label", "import", file)

    assert done.returncode == code
    assert named in done.stderr
    assert "Traceback" not in done.stderr


def test_check_names_everything_that_is_wrong(half: Path) -> None:
    say(half, *[("ann", n, str(n % 10)) for n in range(40, 70)])
    say(half, *[("bob", n, str((n + n % 2) % 10)) for n in range(40, 70)])
    say(half, ("ann", 80, "cat"))
    (half / "data" / "digits" / "images" / "0003.png").unlink()

    checked = answer(half, "label", "check", code=3)

    found = problems(checked)
    assert "`images/0080.png` is labeled `cat`, which is not in data.classes" in found
    assert "`images/0003.png` is labeled" in found
    assert "`images/0041.png`: annotators are divided: ann says `1`, bob says `2`" in found
    alone = answer(half, "label", "check", "--set", "label.min_agreement=0.1", code=3)
    assert alone["error"]["problem"] != checked["error"]["problem"]


def test_check_passes_good_labels(half: Path) -> None:
    say(half, *[(who, n, str(n % 10)) for n in range(40, 65) for who in ("ann", "bob")])

    checked = answer(half, "label", "check")

    assert checked["labeled"] == LABELED + 25
    assert checked["agreement"][0]["kappa"] == 1.0
    assert run(half, "label", "check", "--quiet").stdout == "ok\n"


def test_stats_count_by_class_and_annotator(half: Path) -> None:
    say(half, ("ann", 30, "4"), ("ann", 31, "5"), ("bob", 30, "4"))

    stats = answer(half, "label", "stats")
    shown = run(half, "label", "stats").stdout

    assert (stats["total"], stats["labeled"]) == (IMAGES, LABELED + 2)
    assert [(a["name"], a["labels"], a["median_seconds"]) for a in stats["annotators"]] == [
        ("ann", 2, 2.0),
        ("bob", 1, 2.0),
    ]
    assert f"{LABELED + 2} of {IMAGES} images labeled" in shown
    assert "ann and bob: kappa 1.00" in shown


def test_rebuild_saves_what_a_damaged_file_still_holds(half: Path) -> None:
    path = half / ".mlstack" / "labels.db"
    for _ in range(20):
        say(half, *[("ann", n, str(n % 10)) for n in range(20, 120)])
    content = bytearray(path.read_bytes())
    middle = len(content) // 4096 // 3 * 4096
    content[middle : middle + 4096] = b"\xff" * 4096
    path.write_bytes(content)

    broken = run(half, "label", "export")
    rebuilt = answer(half, "label", "rebuild")

    assert broken.returncode == 3
    assert "mlstack label rebuild" in broken.stderr
    assert rebuilt["damage"]
    assert rebuilt["events"] + rebuilt["missing"] == 2000
    assert 0 < rebuilt["missing"] < 500
    assert (half / rebuilt["kept_as"]).is_file()
    assert len(labels_of(half)) == LABELED + 100
    assert answer(half, "label", "rebuild")["damage"] == ""


def test_rebuild_from_events_drops_what_nobody_said_here(half: Path) -> None:
    say(half, ("ann", 30, "4"))

    answer(half, "label", "rebuild", "--from-events")

    assert labels_of(half) == {name(30): "4"}


def test_folders_and_labels_csv_count_as_labels_until_the_first_export(half: Path) -> None:
    source = half / "data" / "digits"
    (source / dataset.LABELS).unlink()
    (source / "labels.csv").write_text("path,label\nimages/0001.png,1\nimages/0002.png,2\n")
    say(half, ("ann", 2, "1"))

    answer(half, "label", "export")

    assert labels_of(half) == {name(1): "1", name(2): "1"}


def test_nothing_to_export_is_said(half: Path) -> None:
    (half / "data" / "digits" / dataset.LABELS).unlink()

    done = run(half, "label", "export", "--set", "data.classes=[a, b]")

    assert done.returncode == 3
    assert "type `mlstack label`" in done.stderr


def test_a_file_to_import_that_is_not_there_is_exit_2_with_a_hint(half: Path) -> None:
    done = run(half, "label", "import", "nofile.csv")

    assert done.returncode == 2
    assert "there is no file `nofile.csv`" in done.stderr
    assert "hint: give the path" in done.stderr


def test_a_table_is_told_where_its_labels_stand(half: Path) -> None:
    done = run(half, "label", "stats", "--set", "project.task=tabular")

    assert done.returncode == 2
    assert "target column" in done.stderr
