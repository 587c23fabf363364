"""`mlstack init NAME --template tabular|text-classification --data PATH`: the user's own table."""

import csv
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlstack.config import load

TABLE = ("--template", "tabular", "--ci", "none")
TEXTS = ("--template", "text-classification", "--ci", "none")
WORDS = {"de": "der die das und ist nicht", "en": "the a and is not of"}


def write(path: Path, names: list[str], rows: list[list[object]]) -> None:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([names, *rows])


@pytest.fixture
def flowers(tmp_path: Path) -> Path:
    """300 flowers; what tells them apart are size and colour."""
    draw = random.Random(0)
    rows: list[list[object]] = []
    for number in range(300):
        kind = draw.choice(["setosa", "iris x"])
        size = draw.gauss(1 if kind == "setosa" else 5, 0.5)
        # One colour is seen once: whether it is a feature depends on its part.
        colour = "green" if number == 7 else draw.choice(["red", "blue"])
        rows.append([number, f"flower {number}", size, colour, "", kind])
    path = tmp_path / "flowers.csv"
    write(path, ["", "name", "petal size", "colour", "note", "my kind"], rows)
    return path


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    """A folder of texts per language."""
    draw = random.Random(0)
    for language, words in WORDS.items():
        (tmp_path / "letters" / language).mkdir(parents=True)
        for number in range(40):
            text = "\n".join(draw.choices(words.split(), k=12))
            (tmp_path / "letters" / language / f"{number}.txt").write_text(text)
    return tmp_path / "letters"


def test_a_table_is_copied_and_the_config_fits_it(
    tmp_path: Path, flowers: Path, run_init: Callable
) -> None:
    done = run_init(tmp_path, "demo", *TABLE, "--data", "flowers.csv", "--label", "my kind")

    assert done.returncode == 0, done.stderr
    assert "300 real rows" in done.stdout
    assert "`my kind` is the class; left out: ``, `name`, `note` (data.args.ignore)" in done.stdout
    config = load(tmp_path / "demo" / "mlstack.yaml").config
    assert (config.data.source, config.data.label) == ("data/flowers", "my kind")
    assert config.data.args == {"ignore": ["", "name", "note"]}
    assert config.gates.validation["test/acc"].min < 0.65
    assert config.gates.slices == []
    copied = tmp_path / "demo" / "data" / "flowers" / "table.csv"
    assert copied.read_bytes() == flowers.read_bytes()
    assert (tmp_path / "demo" / "data" / "flowers.dvc").is_file()


def test_a_folder_of_texts_becomes_a_table(
    tmp_path: Path, letters: Path, run_init: Callable
) -> None:
    done = run_init(tmp_path, "demo", *TEXTS, "--data", "letters")

    assert done.returncode == 0, done.stderr
    config = load(tmp_path / "demo" / "mlstack.yaml").config
    assert (config.data.source, config.data.label) == ("data/letters", "label")
    assert config.data.args["text"] == "text"
    table = pq.read_table(tmp_path / "demo" / "data" / "letters" / "table.parquet")
    first = table.to_pylist()[0]
    assert first["text"] == (letters / first["file"]).read_text()
    assert set(table["label"].to_pylist()) == {"de", "en"}


def test_the_longest_texts_of_a_table_are_the_text(tmp_path: Path, run_init: Callable) -> None:
    rows = [["de" if n % 2 else "en", f"u{n}", f"{n} " + "word " * 30] for n in range(60)]
    table = pa.table(list(zip(*rows, strict=True)), names=["class", "user", "body"])
    (tmp_path / "own").mkdir()
    pq.write_table(table, tmp_path / "own" / "mails.parquet")

    done = run_init(tmp_path, "demo", *TEXTS, "--data", "own", "--json")

    said = json.loads(done.stdout)
    assert (said["label"], said["text"]) == ("class", "body")
    args = load(tmp_path / "demo" / "mlstack.yaml").config.data.args
    assert args == {"text": "body", "vocabulary": 400, "length": 96}


@pytest.mark.slow
def test_the_own_data_trains_as_it_lies(
    tmp_path: Path, flowers: Path, letters: Path, run_init: Callable
) -> None:
    assert run_init(tmp_path, "a", *TABLE, "--data", flowers, "--label", "my kind").returncode == 0
    assert run_init(tmp_path, "b", *TEXTS, "--data", letters).returncode == 0

    for name in ("a", "b"):
        command = [sys.executable, "-m", "mlstack", "train", "--json", "--set", "train.epochs=10"]
        done = subprocess.run(
            command, cwd=tmp_path / name, capture_output=True, text=True, check=False
        )

        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["metrics"]["test/acc"] > 0.8


def test_a_table_as_a_spreadsheet_in_europe_saves_it_is_read_as_it_is(
    tmp_path: Path, run_init: Callable
) -> None:
    lines = [f"{n % 40},{n % 7};{'a' if n % 40 > 20 else 'b'}" for n in range(200)]
    (tmp_path / "own.csv").write_text("\n".join(["age;kind", *lines]), encoding="utf-8-sig")

    done = run_init(tmp_path, "demo", *TABLE, "--data", "own.csv", "--label", "kind")

    assert done.returncode == 0, done.stderr
    config = load(tmp_path / "demo" / "mlstack.yaml").config
    assert config.data.args == {"ignore": []} and config.model.args["features"] == 1


def rows_of(size: int, value: Callable[[int], object]) -> list[list[object]]:
    return [[n % 7, value(n)] for n in range(size)]


@pytest.mark.parametrize(
    ("names", "rows", "code", "words"),
    [
        (["a", "b"], rows_of(9, str), 2, ["which column of `own.csv`", "--label COLUMN", "a, b"]),
        (["label", "class"], rows_of(9, str), 2, ["say --label COLUMN; it has label, class"]),
        (["a", "class"], rows_of(3, lambda n: n > 0), 3, ["class `false` has 1 example"]),
        (["a", "class"], rows_of(40, lambda n: n / 7), 3, ["`own.csv` holds decimal numbers"]),
        (["a", "class"], rows_of(40, lambda n: n % 2 if n else ""), 3, ["row 1 has no label"]),
        (["class"], [["x"], ["y"]], 3, ["`own.csv` has one column only, class"]),
        (
            ["class", "id"],
            [[n % 2, f"i{n}"] for n in range(300)],
            3,
            ["no column beside the label says anything", "--template text-classification"],
        ),
        (
            ["class", "a"],
            [[n % 2, "inf" if n == 5 else n % 9] for n in range(300)],
            3,
            ["column `a`: `inf` is too large"],
        ),
    ],
)
def test_a_table_that_is_wrong_is_named_and_nothing_is_made(
    tmp_path: Path,
    run_init: Callable,
    names: list[str],
    rows: list[list[object]],
    code: int,
    words: list[str],
) -> None:
    write(tmp_path / "own.csv", names, rows)

    done = run_init(tmp_path, "demo", *TABLE, "--data", "own.csv")

    assert done.returncode == code
    assert [word for word in words if word not in done.stderr] == []
    assert ".mlstack-init" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["own.csv"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*TABLE, "--data", "nowhere"), "there is no file or folder `nowhere`"),
        ((*TABLE, "--data", "empty"), "`empty` holds no table"),
        ((*TEXTS, "--data", "empty"), "or a folder of .txt files per class"),
        ((*TABLE, "--data", "two"), "name the file, as --data two/a.csv"),
        ((*TABLE, "--data", "two/a.xlsx"), "is neither .csv nor .parquet"),
        ((*TEXTS, "--data", "two/a.csv"), "for a table of numbers, say --template tabular"),
        ((*TEXTS, "--data", "bytes"), "`bytes/a/1.txt` is not UTF-8 text"),
    ],
)
def test_what_is_no_table_is_said(
    tmp_path: Path, run_init: Callable, arguments: tuple[str, ...], words: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bytes" / "a").mkdir(parents=True)
    (tmp_path / "bytes" / "a" / "1.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "two").mkdir()
    for name in ("a.csv", "b.csv", "a.xlsx"):
        write(tmp_path / "two" / name, ["a", "class"], rows_of(40, lambda n: n % 2))

    done = run_init(tmp_path, "demo", *arguments)

    assert done.returncode == 3
    assert words in done.stderr
    assert not (tmp_path / "demo").exists()
