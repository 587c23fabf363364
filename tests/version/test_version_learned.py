"""Faults planted in the shipped templates: each is found by its name, and nothing else is."""

import gzip
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from PIL import Image
from projects import write_pointer

from mlstack.config import load
from mlstack.errors import DataError
from mlstack.records import dataset
from mlstack.records.base import read
from mlstack.records.schema import DataSchema
from mlstack.version import checks, pictures
from mlstack.version.result import CheckedData

TABULAR = Path(__file__).parents[2] / "templates" / "tabular"


def check(root: Path, *sets: str, learn: bool = False) -> CheckedData:
    (*_, last) = checks.check(load(root / "mlstack.yaml", sets=sets), learn=learn)
    assert isinstance(last, CheckedData)
    return last


def found(root: Path, *sets: str) -> set[str]:
    """Give the names of what is wrong and of what is suspected, the latter in brackets."""
    try:
        return {f"({note.name})" for note in check(root, *sets).notes}
    except DataError as error:
        return {f"({m.key})" if m.is_note else m.key for m in error.mistakes}


@pytest.fixture
def digits(project: Path) -> Path:
    check(project, learn=True)
    return project


@pytest.fixture
def cancer(tmp_path: Path) -> Path:
    """The tabular template in git, learned."""
    root = tmp_path / "cancer-demo"
    (root / "data" / "cancer").mkdir(parents=True)
    shutil.copytree(TABULAR / "my_project", root / "my_project")
    shutil.copy(TABULAR / "mlstack.yaml", root)
    packed = (TABULAR / "data" / "cancer.csv.gz").read_bytes()
    (root / "data" / "cancer" / "table.csv").write_bytes(gzip.decompress(packed))
    (root / ".gitignore").write_text(".mlstack/\n/data/cancer\n")
    write_pointer(root / "data" / "cancer")
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "start"]):
        identity = ["-c", "user.name=T", "-c", "user.email=t@example.invalid"]
        subprocess.run(["git", *identity, *words], cwd=root, check=True)
    check(root, learn=True)
    return root


def change_labels(root: Path, change: Callable[[list[dict]], list[dict]]) -> None:
    place = root / "data" / "digits" / dataset.LABELS
    dataset.write_labels(
        place, pa.Table.from_pylist(change(dataset.read_labels(place).to_pylist()))
    )


def change_table(root: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    place = root / "data" / "cancer" / "table.csv"
    pa.csv.write_csv(change(pa.csv.read_csv(place)), place)


def with_column(name: str, values: object) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.append_column(name, pa.array(values))


def with_cell(name: str, row: int, value: object) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        values = table[name].to_pylist()
        values[row] = value
        return table.set_column(table.column_names.index(name), name, pa.array(values))

    return change


def redraw(place: Path, picture: Image.Image) -> None:
    place.unlink(missing_ok=True)
    picture.save(place)


# No false alarm


def test_the_shipped_templates_raise_no_alarm(digits: Path, cancer: Path) -> None:
    assert found(digits) == set()
    assert found(cancer) == set()


@pytest.mark.slow
def test_the_whole_digits_template_raises_no_alarm(project_maker, tmp_path: Path) -> None:
    root = project_maker(tmp_path / "all", images=1797)

    assert found(root) == set()


# Planted in images


def bend_image(root: Path) -> None:
    place = root / "data/digits/images/0001.png"
    place.write_bytes(place.read_bytes()[:60])


def bend_parquet(root: Path) -> None:
    pq.write_table(pa.table({"a": range(1000)}), root / "data/digits/more.parquet")
    place = root / "data/digits/more.parquet"
    place.write_bytes(place.read_bytes()[:-20])


def remove_image(root: Path) -> None:
    (root / "data/digits/images/0001.png").unlink()


def colour_image(root: Path) -> None:
    place = root / "data/digits/images/0001.png"
    redraw(place, Image.open(place).convert("RGB"))


def enlarge_image(root: Path) -> None:
    place = root / "data/digits/images/0001.png"
    redraw(place, Image.open(place).resize((64, 64)))


def enlarge_a_class(root: Path) -> None:
    rows = dataset.read_labels(root / "data/digits/labels.parquet").to_pylist()
    for number, row in enumerate(rows):
        place = root / "data/digits" / row["path"]
        side = 12 if row["label"] == "3" else 8 + number % 2
        if row["label"] == "3" or side != 8:
            redraw(place, Image.open(place).resize((side, side)))


def label_new(root: Path) -> None:
    change_labels(root, lambda rows: [{**r, "label": "ten"} if n < 3 else r
                                      for n, r in enumerate(rows)])  # fmt: skip


def drop_class(root: Path) -> None:
    change_labels(root, lambda rows: [row for row in rows if row["label"] != "3"])


def flood_class(root: Path) -> None:
    change_labels(
        root, lambda rows: [row for n, row in enumerate(rows) if row["label"] < "3" or n % 3 == 0]
    )


def contradict(root: Path) -> None:
    images = root / "data/digits/images"
    shutil.copy(images / "0000.png", images / "twin.png")
    change_labels(root, lambda rows: [*rows, {"path": "images/twin.png", "label": "9"}])


@pytest.mark.parametrize(
    ("plant", "names"),
    [
        (bend_image, {"corrupt-file"}),
        (bend_parquet, {"corrupt-file"}),
        (remove_image, {"missing-file"}),
        (colour_image, {"(image-mode)"}),
        (enlarge_image, {"(image-size)"}),
        (enlarge_a_class, {"(size-tells-class)"}),
        (label_new, {"new-class"}),
        (drop_class, {"vanished-class", "(unlabeled-files)"}),
        (flood_class, {"(class-balance-moved)", "(unlabeled-files)"}),
        (contradict, {"contradicting-labels"}),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_a_fault_planted_in_images_is_found_by_its_name(digits, plant, names) -> None:
    plant(digits)

    assert names <= found(digits)
    assert {name for name in found(digits) if "(" not in name} == {
        name for name in names if "(" not in name
    }


@pytest.mark.parametrize("how", ["darker", "enlarged", "one pixel", "jpeg"])
def test_copies_that_are_nearly_equal_are_found_across_parts(project, how: str) -> None:
    images = project / "data/digits/images"
    rng = np.random.default_rng(3)
    for number in range(40):
        base = Image.fromarray(rng.integers(0, 255, (6, 6), dtype=np.uint8))
        picture = base.resize((64, 64), Image.Resampling.BICUBIC)
        again = {
            "darker": lambda p: p.point(lambda v: v * 0.9),
            "enlarged": lambda p: p.resize((96, 96), Image.Resampling.BICUBIC),
            "one pixel": lambda p: Image.fromarray(np.where(np.eye(64) * np.eye(64)[3], 0, p)
                                                   .astype(np.uint8)),
            "jpeg": lambda p: p,
        }[how](picture)  # fmt: skip
        picture.save(images / f"a{number}.png")
        again.save(images / f"b{number}.{'jpg' if how == 'jpeg' else 'png'}")
    added = [{"path": f"images/{p.name}", "label": "1"} for p in sorted(images.glob("[ab]*"))]
    change_labels(project, lambda rows: rows + added)

    pairs = [n.problem for n in check(project).notes if n.name == "near-copies-across-parts"]

    assert pairs
    for problem in pairs:
        one, other = problem.split("`")[1], problem.split("`")[3]
        assert Path(one).stem[1:] == Path(other).stem[1:]


def test_equal_files_in_two_parts_are_found_where_they_are_allowed(project) -> None:
    images = project / "data/digits/images"
    rows = dataset.read_labels(project / "data/digits/labels.parquet").to_pylist()
    for number in range(40):
        shutil.copy(images / f"{number:04d}.png", images / f"twin{number}.png")
    twins = [{**row, "path": f"images/twin{n}.png"} for n, row in enumerate(rows[:40])]
    change_labels(project, lambda rows: rows + twins)

    assert found(project) == {"(copies)"}
    free = found(project, "data.checks.no_duplicates_across_splits=false")
    assert free == {"(copies-across-parts)"}


# Planted in tables


def mapped(name: str, change: Callable[[int, object], object]) -> Callable[[pa.Table], pa.Table]:
    """Change every value of a column, given its row."""

    def apply(table: pa.Table) -> pa.Table:
        values = [change(n, value) for n, value in enumerate(table[name].to_pylist())]
        return table.set_column(table.column_names.index(name), name, pa.array(values))

    return apply


def from_label(name: str, make: Callable[[int, bool], object]) -> Callable[[pa.Table], pa.Table]:
    """Add a column that is made of the row and whether it is benign."""

    def apply(table: pa.Table) -> pa.Table:
        labels = table["label"].to_pylist()
        return table.append_column(
            name, pa.array([make(n, v == "benign") for n, v in enumerate(labels)])
        )

    return apply


def almost_again(table: pa.Table) -> pa.Table:
    first = mapped("mean radius", lambda _, value: value + 1e-4)(table.slice(0, 60))
    return pa.concat_tables([table, first])


TABLE_FAULTS = {
    "column added": (with_column("more", [n % 7 + 0.5 for n in range(569)]), {"new-column"}),
    "column dropped": (lambda t: t.drop_columns(["mean area"]), {"vanished-column"}),
    "label dropped": (lambda t: t.drop_columns(["label"]), {"vanished-column"}),
    "sentinel": (with_cell("mean area", 3, -999.0), {"out-of-range"}),
    "too large": (with_cell("mean area", 3, 1e6), {"out-of-range"}),
    "class added": (with_cell("label", 3, "unclear"), {"new-class", "too-few-examples"}),
    "no label": (with_cell("label", 3, None), {"empty-label"}),
    "unit in text": (mapped("mean area", lambda _, value: f"{value} mm"), {"type-changed"}),
    "gaps": (mapped("mean area", lambda n, v: v if n % 10 else None), {"missing-values"}),
    "label copied": (
        from_label("code", lambda _, is_benign: int(is_benign)),
        {"new-column", "label-copy"},
    ),
    "value tells": (
        from_label("ward", lambda n, is_benign: n % 3 + 3 * is_benign),
        {"new-column", "(column-tells-label)"},
    ),
    "number tells": (
        from_label("score", lambda n, is_benign: n / 1000 + is_benign),
        {"new-column", "(column-tells-label)"},
    ),
    "id": (
        with_column("patient_id", [n * 977 for n in range(569)]),
        {"new-column", "(id-like-column)"},
    ),
    "class differs": (
        lambda table: pa.concat_tables([table, with_cell("label", 0, "benign")(table).slice(0, 1)]),
        {"(contradicting-labels)"},
    ),
    "rounded copies": (almost_again, {"(near-equal-rows-across-parts)"}),
}


@pytest.mark.parametrize(("change", "names"), TABLE_FAULTS.values(), ids=TABLE_FAULTS)
def test_a_fault_planted_in_a_table_is_found_by_its_name(cancer, change, names) -> None:
    change_table(cancer, change)

    seen = found(cancer)

    assert names <= seen
    assert {name for name in seen - names if "(" not in name} == set()


def test_a_text_that_was_never_there_is_found(cancer) -> None:
    change_table(cancer, with_column("city", [("Bern", "Basel", "Zug")[n % 3] for n in range(569)]))
    check(cancer, learn=True)
    change_table(cancer, with_cell("city", 5, "Brn"))

    assert found(cancer) == {"unknown-value"}


def test_equal_rows_in_two_parts_are_found_where_they_are_allowed(cancer) -> None:
    change_table(cancer, lambda table: pa.concat_tables([table, table.slice(0, 60)]))

    assert found(cancer) == set()
    free = found(cancer, "data.checks.no_duplicates_across_splits=false")
    assert free == {"(equal-rows-across-parts)"}


def test_the_row_that_is_named_counts_from_one(cancer) -> None:
    """Every twelfth row is there again at the end, exactly or nearly: row 1, row 13, ..."""

    def again(shift: float, table: pa.Table) -> pa.Table:
        copies = table.take(list(range(0, 569, 12)))
        column = table.column_names.index("mean radius")
        moved = [value + shift for value in copies["mean radius"].to_pylist()]
        return pa.concat_tables([table, copies.set_column(column, "mean radius", pa.array(moved))])

    place = cancer / "data" / "cancer" / "table.csv"
    original, said = place.read_bytes(), {}
    for shift in (0.0, 0.0001):
        place.write_bytes(original)
        change_table(cancer, partial(again, shift))
        notes = check(cancer, "data.checks.no_duplicates_across_splits=false").notes
        said |= {one.name: one for one in notes if "across-parts" in one.name}

    assert said.keys() == {"equal-rows-across-parts", "near-equal-rows-across-parts"}
    for one in said.values():
        row = int(one.problem.rsplit(" row ", 1)[1])
        assert row < 569
        assert row % 12 == 1
        assert one.hint.endswith("the first row is 1")


def test_coarse_rows_that_are_often_equal_are_no_leak(cancer) -> None:
    rows = 569
    table = pa.table(
        {
            "a": [n % 4 + 0.25 for n in range(rows)],
            "b": [n % 3 for n in range(rows)],
            "label": [("x", "y")[n % 5 > 2] for n in range(rows)],
        }
    )
    (cancer / "data/cancer.schema.json").unlink()
    change_table(cancer, lambda _: table)

    assert found(cancer) == set()


def test_rows_that_are_nearly_equal_by_chance_are_no_leak(cancer) -> None:
    rng = np.random.default_rng(5)
    table = pa.table(
        {
            "a": rng.random(3000),
            "b": rng.random(3000),
            "label": rng.choice(["x", "y"], 3000),
        }
    )
    (cancer / "data/cancer.schema.json").unlink()
    change_table(cancer, lambda _: table)

    assert found(cancer) == set()


def test_a_change_of_unit_inside_the_range_is_suspected(cancer) -> None:
    change_table(
        cancer,
        lambda t: t.set_column(
            0, "mean radius", pa.array([v / 2.54 for v in t["mean radius"].to_pylist()])
        ),
    )

    assert found(cancer) == {"(mean-moved)"}


def test_whole_numbers_that_float64_cannot_hold_are_checked_too(cancer) -> None:
    change_table(cancer, with_column("customer", [10**18 + row for row in range(569)]))
    check(cancer, learn=True)

    assert found(cancer) == {"(id-like-column)"}


@pytest.mark.parametrize(
    "values",
    [[1_234_567] * 569, [1_732_600_000 + 6 * row for row in range(569)]],
    ids=["one-number", "seconds-since-1970"],
)
def test_numbers_far_from_zero_are_within_what_was_learned_of_them(cancer, values) -> None:
    change_table(cancer, with_column("n", values))
    check(cancer, learn=True)

    assert found(cancer) - {"(id-like-column)"} == set()


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), 1e300, -3.5e38])
def test_numbers_that_training_refuses_are_found_where_they_are_learned_from(
    cancer, value: float
) -> None:
    values = [float(row % 7) for row in range(569)]
    values[3] = values[5] = value
    change_table(cancer, with_column("huge", values))

    with pytest.raises(DataError) as refused:
        check(cancer, learn=True)

    problems = {one.key: one.problem for one in refused.value.mistakes}
    said = problems["number-too-large"]
    assert said.startswith(f"column `huge`: row 4 holds `{value}`, and 1 more;")
    check(cancer, "data.args.ignore=[huge]", learn=True)
    assert "number-too-large" not in found(cancer, "data.args.ignore=[huge]")


def test_the_largest_number_that_training_takes_is_no_fault(cancer) -> None:
    values = [float(row % 7) for row in range(569)]
    values[3] = 3.4e38
    change_table(cancer, with_column("huge", values))

    assert "number-too-large" not in found(cancer)


def test_gaps_in_a_column_that_the_model_ignores_are_no_fault(cancer) -> None:
    change_table(cancer, with_column("remark", [None, "read"] * 284 + [None]))

    check(cancer, "data.args.ignore=[remark]", learn=True)

    assert found(cancer, "data.args.ignore=[remark]") == set()
    assert found(cancer) == {"missing-values"}


def test_gaps_are_counted_and_the_limit_that_allows_all_of_them_is_said(cancer) -> None:
    change_table(cancer, with_column("remark", [None, "read"] * 284 + [None]))

    with pytest.raises(DataError) as refused:
        check(cancer)

    (mistake,) = [one for one in refused.value.mistakes if one.key == "missing-values"]
    assert "column `remark`: 285 of 569 values (50.1%) are missing" in mistake.problem
    assert "allow it by `data.checks.max_missing: 0.51`, or leave it out" in mistake.hint


def test_columns_that_the_model_ignores_are_not_searched_for_leaks(cancer) -> None:
    change_table(cancer, with_column("patient_id", list(range(569))))
    check(cancer, "data.args.ignore=[patient_id]", learn=True)

    assert found(cancer, "data.args.ignore=[patient_id]") == set()
    assert found(cancer) == {"(id-like-column)"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a table"),
        (b"a,b,label\n", "has no rows"),
        (b"a,a,label\n1,2,x\n", "has the column `a` twice"),
    ],
)
def test_a_table_that_cannot_be_read_is_named_with_a_hint(cancer, content, said) -> None:
    (cancer / "data/cancer/table.csv").write_bytes(content)

    with pytest.raises(DataError) as caught:
        check(cancer)

    assert [m.key for m in caught.value.mistakes] == ["unreadable-table"]
    assert said in caught.value.mistakes[0].problem


def test_a_byte_order_mark_changes_nothing(cancer) -> None:
    place = cancer / "data/cancer/table.csv"
    place.write_bytes(b"\xef\xbb\xbf" + place.read_bytes())

    assert found(cancer) == set()


@pytest.mark.parametrize("content", [b"", b"PAR1"])
def test_a_damaged_parquet_table_is_named(cancer, content: bytes) -> None:
    (cancer / "data/cancer/table.csv").unlink()
    (cancer / "data/cancer/table.parquet").write_bytes(content)

    assert found(cancer) == {"unreadable-table"}


# Learning


def test_what_is_learned_is_a_commit_and_says_so(project, version, answer) -> None:
    said = answer("check", "--learn")

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=project, capture_output=True, text=True, check=True
        ).stdout

    assert (said["learned"], said["schema"]) == (True, "data/digits.schema.json")
    assert git("log", "-1", "--name-only", "--format=%s").split("\n")[:3] == [
        "learn what data/digits is like", "", "data/digits.schema.json",
    ]  # fmt: skip
    assert git("status", "--porcelain") == ""
    assert "learned and committed" in version("check", "--learn").stdout
    assert git("rev-list", "--count", "HEAD").strip() == "2"  # learned again, nothing new


def test_nothing_is_learned_from_data_that_is_wrong(project) -> None:
    remove_image(project)

    with pytest.raises(DataError):
        check(project, learn=True)

    assert not (project / "data/digits.schema.json").exists()


def test_what_was_new_is_allowed_once_it_is_learned(digits) -> None:
    label_new(digits)
    assert found(digits) == {"new-class"}

    taught = check(digits, learn=True)

    assert [one.name for one in taught.accepted] == ["new-class"]
    assert "ten" in read(digits / "data/digits.schema.json", DataSchema).classes
    assert found(digits) == set()


def test_limits_may_be_edited_by_hand(cancer) -> None:
    place = cancer / "data/cancer.schema.json"
    schema = json.loads(place.read_text())
    schema["columns"]["mean area"]["high"] = 2000
    place.write_text(json.dumps(schema))

    assert found(cancer) == {"out-of-range"}


def test_many_images_are_looked_at_by_several_processes_alike(project, monkeypatch) -> None:
    folder = project / "data" / "digits"
    bend_image(project)
    paths = sorted(f"images/{path.name}" for path in (folder / "images").iterdir())

    def scan() -> pictures.Album:
        steps = pictures.scan(folder, paths)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value

    alone = scan()
    monkeypatch.setattr(pictures, "FEW", 10)
    together = scan()

    assert list(alone.damaged) == ["images/0001.png"]
    assert (alone.paths, alone.looks, alone.damaged) == (
        together.paths, together.looks, together.damaged,
    )  # fmt: skip
    assert (alone.grey == together.grey).all()


# How it is said


def test_every_finding_is_in_the_docs() -> None:
    folder = Path(checks.__file__).parent
    text = "".join((folder / f"{n}.py").read_text() for n in
                   ("checks", "labelled", "leaks", "learned"))  # fmt: skip
    names = set(re.findall(r'(?:name=|_note\(\s*)"([a-z]+(?:-[a-z]+)*)"', text))

    documented = (Path(__file__).parents[2] / "docs" / "checks.md").read_text()

    assert len(names) > 30
    assert {name for name in names if f"`{name}`" not in documented} == set()


def test_json_has_all_findings_and_text_the_first_of_each_sort(digits, version) -> None:
    for path in sorted((digits / "data/digits/images").iterdir())[:30]:
        path.write_bytes(b"broken")
    colour = digits / "data/digits/images/0100.png"
    redraw(colour, Image.open(colour).convert("RGB"))

    told = json.loads(version("check", "--json").stdout)
    text = version("check")

    assert text.returncode == 3
    assert [e["key"] for e in told["error"]["errors"]].count("corrupt-file") == 30
    assert [n["key"] for n in told["error"]["notes"]] == ["image-mode"]
    assert text.stderr.count("not an image") == 20
    assert "... and 10 more like this" in text.stderr
    assert "note: there are images of the mode RGB" in text.stderr


def test_odd_names_are_told_on_one_line(digits, version) -> None:
    odd = "images/a b\nünï`.png"
    (digits / "data/digits" / odd).write_bytes(b"broken")

    done = version("check")

    assert done.returncode == 3
    assert r"images/a b\nünï`.png" in done.stderr
