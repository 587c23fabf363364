"""`mlstack init NAME --data PATH`: a folder per class, or labels.csv."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from mlstack.config import load
from mlstack.records.dataset import read_labels


def test_a_folder_per_class_is_copied_and_the_config_fits_it(
    tmp_path: Path, photos: Path, run_init: Callable
) -> None:
    (photos / "cat" / "notes.txt").write_text("not an image")
    (photos / "cat" / "phone.HEIC").write_bytes(b"not one that is read")
    (photos / "dog" / "phone.heic").write_bytes(b"not one that is read")
    (photos / "cat" / ".DS_Store").write_bytes(b"of a file manager")
    (photos / "cat" / "Thumbs.db").write_bytes(b"of a file manager")
    (photos / "unsorted.jpg").write_bytes((photos / "cat" / "0.jpg").read_bytes())

    done = run_init(tmp_path, "demo", "--data", "photos", "--ci", "none")

    assert done.returncode == 0, done.stderr
    config = load(tmp_path / "demo" / "mlstack.yaml").config
    assert config.data.source == "data/photos"
    assert config.data.args == {"image_size": 64, "channels": 3}
    assert config.model.args["channels"] == 3
    assert config.gates.validation["test/acc"].min == 0.55
    labels = read_labels(tmp_path / "demo" / "data" / "photos" / "labels.parquet").to_pylist()
    assert len(labels) == 8
    assert labels[0] == {"path": "cat/0.jpg", "label": "cat"}
    assert (tmp_path / "demo" / "data" / "photos" / "unsorted.jpg").is_file()
    assert not (tmp_path / "demo" / "data" / "photos" / "cat" / "notes.txt").exists()
    assert (tmp_path / "demo" / "data" / "photos.dvc").is_file()
    assert "1 image waits for a label" in done.stdout
    assert "3 files are no images and were left out (.heic, .txt)" in done.stdout


def test_labels_csv_says_which_is_which(tmp_path: Path, run_init: Callable) -> None:
    (tmp_path / "pics").mkdir()
    lines = ["path,label"]
    for number in range(4):
        Image.new("L", (8, 8), number * 60).save(tmp_path / "pics" / f"{number}.png")
        lines.append(f"./{number}.png,{'even' if number % 2 == 0 else 'odd'}")
    (tmp_path / "pics" / "labels.csv").write_text("\n".join(lines))

    done = run_init(tmp_path, "demo", "--data", "pics")

    assert done.returncode == 0, done.stderr
    config = load(tmp_path / "demo" / "mlstack.yaml").config
    assert config.data.args == {"image_size": 16, "channels": 1}
    labels = read_labels(tmp_path / "demo" / "data" / "pics" / "labels.parquet").to_pylist()
    assert [row["label"] for row in labels] == ["even", "odd", "even", "odd"]
    assert "wait for a label" not in done.stdout


@pytest.mark.parametrize(
    "head",
    ["path;label", "path\tlabel", " path , label "],
    ids=["semicolons", "tabs", "spaces"],
)
def test_labels_csv_is_read_as_table_programs_write_it(
    tmp_path: Path, photos: Path, run_init: Callable, head: str
) -> None:
    mark = next(mark for mark in ";\t," if mark in head)
    rows = [f"{kind}/{number}.jpg{mark}{kind} " for kind in ("cat", "dog") for number in range(4)]
    (photos / "labels.csv").write_text("\r\n".join([head, *rows]))

    done = run_init(tmp_path, "demo", "--data", "photos")

    assert done.returncode == 0, done.stderr
    labels = read_labels(tmp_path / "demo" / "data" / "photos" / "labels.parquet").to_pylist()
    assert labels[0] == {"path": "cat/0.jpg", "label": "cat"}


def test_labels_csv_may_hold_whole_paths_and_those_files_stay_as_they_are(
    tmp_path: Path, photos: Path, run_init: Callable
) -> None:
    images = [photos / kind / f"{number}.jpg" for kind in ("cat", "dog") for number in range(4)]
    before = [image.read_bytes() for image in images]
    rows = [f"{image},{image.parent.name}" for image in images]
    (photos / "labels.csv").write_text("\n".join(["path,label", *rows]))

    done = run_init(tmp_path, "demo", "--data", "photos")

    assert done.returncode == 0, done.stderr
    labels = read_labels(tmp_path / "demo" / "data" / "photos" / "labels.parquet").to_pylist()
    assert labels[0] == {"path": "cat/0.jpg", "label": "cat"}
    assert [image.read_bytes() for image in images] == before


def break_images(photos: Path) -> None:
    (photos / "cat" / "1.jpg").write_bytes(b"")
    whole = (photos / "dog" / "2.jpg").read_bytes()
    (photos / "dog" / "2.jpg").write_bytes(whole[: len(whole) // 2])


def add_empty_class(photos: Path) -> None:
    (photos / "bird").mkdir()


def add_small_class(photos: Path) -> None:
    (photos / "bird").mkdir()
    (photos / "cat" / "0.jpg").rename(photos / "bird" / "0.jpg")


def keep_one_class(photos: Path) -> None:
    (photos / "dog").rename(photos.parent / "elsewhere")


def write_csv(content: bytes) -> Callable[[Path], None]:
    return lambda photos: (photos / "labels.csv").write_bytes(content) and None


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (break_images, ["cat/1.jpg", "dog/2.jpg", "2 of 8 images cannot be read"]),
        (add_empty_class, ["`bird` has 0"]),
        (add_small_class, ["`bird` has 1"]),
        (keep_one_class, ["one class only, `cat`"]),
        (
            write_csv(b"file,class\n"),
            ["needs the columns `path` and `label`", "has `file`, `class`"],
        ),
        (write_csv(b"path,label\ncat/0.jpg,\n"), ["labels.csv:2", "no label"]),
        (write_csv(b"path,label\ncat/9.jpg,a\n"), ["labels.csv:2", "no file `cat/9.jpg`"]),
        (write_csv(b"path,label\n../away.jpg,a\n"), ["labels.csv:2", "no file `../away.jpg`"]),
        (write_csv(b"path,label\ncat/0.jpg,a\ncat/0.jpg,b\n"), ["both `a` and `b`"]),
        (write_csv(b"path,label\n\xff\xfe,a\n"), ["cannot be read", "UTF-8"]),
    ],
)
def test_data_that_is_wrong_is_named_and_nothing_is_made(
    tmp_path: Path, photos: Path, run_init: Callable, damage: Callable, words: list[str]
) -> None:
    damage(photos)

    done = run_init(tmp_path, "demo", "--data", "photos")

    assert done.returncode == 3
    assert [word for word in words if word not in done.stderr] == []
    assert not (tmp_path / "demo").exists()
    assert list(tmp_path.glob(".mlstack-init*")) == []


@pytest.mark.parametrize(
    ("arguments", "problem", "hint"),
    [
        (("--data", "nowhere"), "`nowhere`", "name a folder of images, with a folder per class"),
        (("--data", "missing.csv"), "`missing.csv`", "for a table say --template tabular or"),
        (("--data", "photo"), "`photo`", "did you mean `photos`?"),
        (("--data", "foto/cat"), "`foto/cat`, nor a folder `foto`", "name a folder of images"),
        (("--data", "phots/cat"), "`phots/cat`, nor a folder `phots`", "did you mean `photos`?"),
        (("--template", "tabular", "--data", "own.cvs"), "`own.cvs`", "did you mean `own.csv`?"),
        (("--template", "tabular", "--data", "missing.csv"), "`missing.csv`", "name a table (CSV"),
    ],
)
def test_what_is_not_there_is_named_with_what_may_have_been_meant(
    tmp_path: Path, run_init: Callable, arguments: tuple[str, ...], problem: str, hint: str
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "own.csv").touch()

    done = run_init(tmp_path, "demo", *arguments)

    assert done.returncode == 3
    assert f"error: --data: there is no file or folder {problem}\n" in done.stderr
    assert hint in done.stderr


def test_odd_names_of_classes_stay_in_their_cells_of_the_card(
    tmp_path: Path, photos: Path, run_init: Callable
) -> None:
    heap, odd = tmp_path / "heap", {"cat": "a\nb|<i>", "dog": "\x1b[31mred"}
    heap.mkdir()
    with (heap / "labels.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(("path", "label"))
        for number, path in enumerate(sorted(photos.rglob("*.jpg"))):
            shutil.copy(path, heap / f"{number}.jpg")
            rows.writerow((f"{number}.jpg", odd[path.parent.name]))

    done = run_init(tmp_path, "demo", "--data", "heap")

    assert done.returncode == 0, done.stderr
    card = (tmp_path / "demo" / "data" / "README.md").read_text()
    assert "| a\\\\nb\\|\\<i\\> | 4 |\n" in card
    assert "| \\\\x1b\\[31mred | 4 |\n" in card


def test_images_without_labels_are_told_how_few_are_enough(
    tmp_path: Path, photos: Path, run_init: Callable
) -> None:
    (tmp_path / "heap").mkdir()
    for number, photo in enumerate(sorted(photos.rglob("*.jpg"))):
        shutil.copy(photo, tmp_path / "heap" / f"{number}.jpg")

    refused = run_init(tmp_path, "demo", "--data", "heap")
    for name in ("0", "1", "4", "5"):
        label = tmp_path / "heap" / ("cat" if name < "4" else "dog")
        label.mkdir(exist_ok=True)
        (tmp_path / "heap" / f"{name}.jpg").rename(label / f"{name}.jpg")
    done = run_init(tmp_path, "demo", "--data", "heap")

    assert refused.returncode == 3
    assert "two images of each class will do, `mlstack label` asks for the rest" in refused.stderr
    assert done.returncode == 0, done.stderr
    assert "4 images wait for a label" in done.stdout
    assert "Next: cd demo && mlstack label" in done.stdout


def test_a_folder_of_texts_is_told_which_template_reads_them(
    tmp_path: Path, run_init: Callable
) -> None:
    (tmp_path / "texts" / "good").mkdir(parents=True)
    (tmp_path / "texts" / "good" / "1.txt").write_text("nice")

    done = run_init(tmp_path, "demo", "--data", "texts")

    assert done.returncode == 3
    assert "`texts` holds no image" in done.stderr
    assert "text-classification" in done.stderr


def test_a_table_without_its_template_is_told_the_template(
    tmp_path: Path, run_init: Callable
) -> None:
    (tmp_path / "rows.csv").write_text("a,y\n1,b\n")

    done = run_init(tmp_path, "demo", "--data", "rows.csv", "--label", "y")

    assert done.returncode == 2
    assert "for a table say --template tabular or text-classification" in done.stderr
