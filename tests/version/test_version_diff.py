import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from browser import opened, started
from PIL import Image

from mlstack.records import dataset


@pytest.fixture(scope="module")
def browser():
    yield from started()


@pytest.fixture
def digits(snapshotted):
    return snapshotted / "data" / "digits"


def relabel(digits, change) -> None:
    rows = dataset.read_labels(digits / dataset.LABELS).to_pylist()
    dataset.write_labels(digits / dataset.LABELS, pa.Table.from_pylist(change(rows)))


def test_a_renamed_file_is_neither_added_nor_removed(digits, answer) -> None:
    odd = "images/ünï ,\n'x'.png"
    (digits / "images/0007.png").rename(digits / odd)

    said = answer("diff")

    assert (said["added"], said["removed"]) == ([], [])
    assert [(r["before"], r["after"]) for r in said["renamed"]] == [("images/0007.png", odd)]
    assert (said["bytes_added"], said["bytes_removed"]) == (0, 0)


def test_a_file_moved_into_another_class_is_relabelled(project, answer) -> None:
    digits = project / "data" / "digits"
    shutil.rmtree(digits)
    for name, grey in (("cat/a.png", 10), ("cat/b.png", 90), ("dog/c.png", 200)):
        (digits / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), grey).save(digits / name)
    assert answer("snapshot", "-m", "folders")["ok"]
    (digits / "cat/b.png").rename(digits / "dog/b.png")

    said = answer("diff")

    (one,) = said["relabelled"]
    assert (one["path"], one["before"], one["after"]) == ("dog/b.png", "cat", "dog")


def test_bytes_and_classes_that_came_and_went_are_said(digits, answer) -> None:
    (digits / "images/more.png").write_bytes(b"12345")
    old = dataset.read_labels(digits / dataset.LABELS)["label"].to_pylist().count("3")
    relabel(digits, lambda rows: [{**r, "label": "new" if r["label"] == "3" else r["label"]}
                                  for r in rows])  # fmt: skip

    said = answer("diff")

    sizes = (digits / dataset.LABELS).stat().st_size
    assert said["bytes_added"] == 5 + sizes
    flags = {c["name"]: (c["flag"], c["delta"]) for c in said["classes"] if c["flag"]}
    assert flags == {"3": ("vanished", -old), "new": ("new", old)}


def test_only_files_that_differ_are_opened(digits, project, answer) -> None:
    (digits / "notes.csv").write_text("id,a\n1,2\n")
    answer("snapshot", "-m", "notes")
    for path in (project / ".dvc/cache/files/md5").rglob("*"):
        if path.is_file() and path.suffix != ".dir" and b"PAR1" not in path.read_bytes()[:4]:
            path.unlink()  # images and notes.csv of the version are not here
    (digits / "images/0003.png").unlink()

    said = answer("diff")

    assert said["removed"] == ["images/0003.png"]
    assert said["tables"] == []
    assert said["bytes_removed"] is None


def test_a_table_beside_the_images_is_compared_by_row(digits, version, answer, tmp_path) -> None:
    pq.write_table(pa.table({"path": ["a", "b"], "w": [1, 2]}), digits / "meta.parquet")
    answer("snapshot", "-m", "meta")
    pq.write_table(pa.table({"path": ["a", "b"], "w": [1, 3]}), digits / "meta.parquet")
    out = tmp_path / "rows.parquet"

    said = answer("diff", "--key", "path", "--out", str(out))
    shown = version("diff")

    (table,) = said["tables"]
    assert (table["key"], table["rows_changed"]) == (["path"], 1)
    assert pq.read_table(out).to_pylist() == [
        {"change": "changed", "path": "b", "w_before": 2, "w_after": 3}
    ]
    assert "b: w 2 -> 3" in shown.stdout
    assert shown.returncode == 0


def test_a_wrong_key_is_exit_2(digits, version, answer) -> None:
    pq.write_table(pa.table({"path": ["a", "b"], "w": [1, 1]}), digits / "meta.parquet")
    answer("snapshot", "-m", "meta")
    pq.write_table(pa.table({"path": ["a", "b"], "w": [1, 3]}), digits / "meta.parquet")

    done = version("diff", "--key", "w")

    assert done.returncode == 2
    assert "name more than one row" in done.stderr


def test_the_contact_sheet_is_one_file_that_loads_nothing(digits, answer, tmp_path) -> None:
    page = tmp_path / "sheet.html"
    Image.new("RGB", (200, 100), "red").save(digits / "images/<script>.png")
    (digits / "images/0000.png").unlink()
    Image.new("L", (8, 8), 9).save(digits / "images/0000.png")
    (digits / "images/broken.png").write_bytes(b"no picture")
    relabel(digits, lambda rows: [*rows[:-1], {**rows[-1], "label": "z"}])

    said = answer("diff", "--html", str(page))

    text = page.read_text()
    assert said["page"] == str(page)
    assert text.count("data:image/") == 4  # before, after, added, relabelled
    assert "not an image" in text
    assert "prefers-color-scheme: dark" in text
    assert "<script" not in text
    assert "http" not in text
    assert 'src="/' not in text and "url(" not in text


def test_the_bars_of_the_classes_are_seen_on_a_phone(digits, answer, browser, tmp_path) -> None:
    relabel(digits, lambda rows: [*rows[:-1], {**rows[-1], "label": "z"}])
    answer("diff", "--html", str(tmp_path / "sheet.html"))
    page, complaints = opened(browser)
    page.set_viewport_size({"width": 400, "height": 800})

    page.goto((tmp_path / "sheet.html").as_uri())

    widths = page.eval_on_selector_all(".bars .bar", "bars => bars.map(b => b.clientWidth)")
    assert min(widths) > 250
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    assert page.inner_text(".tile.changed i") == "1 row"
    assert complaints == []
    page.close()


@pytest.mark.parametrize("width", [400, 1280])
def test_a_long_name_of_a_class_stays_in_its_picture_of_the_sheet(
    digits, answer, browser, tmp_path, width: int
) -> None:
    long = "a-very-long-name-of-a-class" * 6
    Image.new("RGB", (64, 64), "red").save(digits / "images/new.png")
    relabel(
        digits,
        lambda rows: [
            *({**row, "label": long} for row in rows[:3]),
            *rows[3:],
            {"path": "images/new.png", "label": "<b>fresh"},
        ],
    )
    answer("diff", "--html", str(tmp_path / "sheet.html"))
    page, complaints = opened(browser)
    page.set_viewport_size({"width": width, "height": 800})

    page.goto((tmp_path / "sheet.html").as_uri())

    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.get_attribute(f".chip[title='{long}']", "title") == long
    added = page.locator("section", has=page.locator("h2", has_text="Added"))
    assert added.locator(".chip").inner_text() == "<b>fresh"
    assert complaints == []
    page.close()


def test_labels_csv_that_lost_its_commas_is_named(project, answer, version) -> None:
    digits = project / "data" / "digits"
    (digits / dataset.LABELS).unlink()
    (digits / "labels.csv").write_text("path,label\nimages/0000.png,0\nimages/0001.png,1\n")
    answer("snapshot", "-m", "csv")
    (digits / "labels.csv").write_text("path label\nimages/0000.png 0\n")

    done = version("diff")

    assert done.returncode == 3
    assert "labels.csv:1: needs the columns `path` and `label`" in done.stderr
    assert "make the first line path,label" in done.stderr


def test_equal_versions_have_no_difference_and_a_page_that_says_so(
    digits, version, tmp_path
) -> None:
    page = tmp_path / "none.html"

    done = version("diff", "--html", str(page))

    assert "no difference" in done.stdout
    assert "No difference." in page.read_text()
    assert json.loads(version("diff", "--json").stdout)["tables"] == []


def test_without_a_table_that_differs_no_file_is_written_and_that_is_said(
    digits, version, tmp_path
) -> None:
    done = version("diff", "--out", str(tmp_path / "rows.parquet"))

    assert done.returncode == 0
    assert "no table differs" in done.stderr
    assert not (tmp_path / "rows.parquet").exists()
