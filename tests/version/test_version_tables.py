"""Row diffs, compared with what a person would get with two dicts."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlstack.errors import ConfigError
from mlstack.version import tables
from mlstack.version.difference import TableChange
from mlstack.version.words import apart


def compare(folder: Path, before: object, after: object, **wanted) -> TableChange:
    """Write two tables, or bytes, and compare them."""
    name = wanted.pop("name", "table.parquet")
    places = []
    for side, content in (("old", before), ("new", after)):
        place = folder / side / name
        place.parent.mkdir(exist_ok=True)
        if isinstance(content, bytes):
            place.write_bytes(content)
        else:
            pq.write_table(pa.table(content), place)
        places.append(place)
    return tables.compare(
        tables.Wanted(name, *places, folder / "scratch", **wanted), tables.Watch()
    )


ROWS = st.dictionaries(
    st.integers(0, 12), st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 2))
)


@given(before=ROWS, after=ROWS)
@settings(max_examples=40, deadline=None)
def test_rows_by_key_are_what_two_dicts_say(before, after) -> None:
    def columns(rows):
        return {
            "id": pa.array(rows, pa.int64()),
            "word": pa.array([word for word, _ in rows.values()], pa.string()),
            "n": pa.array([n for _, n in rows.values()], pa.int64()),
        }

    with TemporaryDirectory() as folder:
        found = compare(Path(folder), columns(before), columns(after), key=("id",))

    both = before.keys() & after.keys()
    assert found.rows_added == len(after.keys() - both)
    assert found.rows_removed == len(before.keys() - both)
    changed = sorted(k for k in both if before[k] != after[k])
    assert [row.key for row in found.rows] == [[str(k)] for k in changed]
    words = sum(before[k][0] != after[k][0] for k in both)
    assert found.cells_changed.get("word", 0) == words


@given(
    before=st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=1),
    after=st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=1),
)
@settings(max_examples=40, deadline=None)
def test_rows_without_a_key_are_compared_as_multisets(before, after) -> None:
    with TemporaryDirectory() as folder:
        found = compare(
            Path(folder),
            {"x": [x for x, _ in before], "y": [float(y) for _, y in before]},
            {"x": [x for x, _ in after], "y": [float(y) for _, y in after]},
        )

    old, new = Counter(before), Counter(after)
    assert found.key == []
    assert (found.rows_added, found.rows_removed) == ((new - old).total(), (old - new).total())


def test_a_changed_row_is_shown_old_to_new_and_counted_by_column(tmp_path: Path) -> None:
    before = {"id": [1, 2, 3], "a": [1.5, 2.5, None], "b": ["x", "y", "z"]}
    after = {"id": [3, 2, 1], "a": [None, 9.0, 1.5], "b": ["zz", "y", "x"]}

    found = compare(tmp_path, before, after)

    assert found.key == ["id"]
    assert found.cells_changed == {"a": 1, "b": 1}
    (second, third) = found.rows
    assert [(c.column, c.before, c.after) for c in second.cells] == [("a", "2.5", "9.0")]
    assert [(c.column, c.before, c.after) for c in third.cells] == [("b", "z", "zz")]


def test_the_first_twenty_changed_rows_are_shown_and_all_are_counted(tmp_path: Path) -> None:
    numbers = list(range(500))

    found = compare(
        tmp_path, {"id": numbers, "a": numbers}, {"id": numbers, "a": [n + 1 for n in numbers]}
    )

    assert found.rows_changed == 500
    assert [row.key for row in found.rows] == [[str(n)] for n in range(20)]


def test_columns_that_came_went_or_changed_type_are_named(tmp_path: Path) -> None:
    found = compare(
        tmp_path,
        {"id": [1, 2], "gone": [1, 1], "n": [1, 2]},
        {"id": [1, 2], "came": ["x", "y"], "n": [1.0, 2.5]},
    )

    assert found.columns_added == {"came": "VARCHAR"}
    assert found.columns_removed == {"gone": "BIGINT"}
    assert [(c.name, c.before, c.after) for c in found.columns_retyped] == [
        ("n", "BIGINT", "DOUBLE")
    ]
    assert found.cells_changed == {"n": 1}  # 1 and 1.0 are the same number


def test_every_row_that_differs_goes_to_the_file(tmp_path: Path) -> None:
    out = tmp_path / "made" / "changed.parquet"

    compare(tmp_path, {"id": [1, 2, 3], "a": [1, 2, 3]}, {"id": [2, 3, 4], "a": [2, 9, 4]}, out=out)

    rows = sorted(pq.read_table(out).to_pylist(), key=lambda row: row["id"])
    assert rows == [
        {"change": "removed", "id": 1, "a_before": 1, "a_after": None},
        {"change": "changed", "id": 3, "a_before": 3, "a_after": 9},
        {"change": "added", "id": 4, "a_before": None, "a_after": 4},
    ]
    assert [path.name for path in out.parent.iterdir()] == ["changed.parquet"]


def test_a_key_that_is_not_unique_is_refused_and_two_columns_may_be_one(tmp_path: Path) -> None:
    before = {"a": [1, 1, 2], "b": [1, 2, 1], "c": [1, 2, 3]}
    after = {"a": [1, 1, 2], "b": [1, 2, 1], "c": [1, 2, 4]}

    with pytest.raises(ConfigError, match="1 values of `a` name more than one row"):
        compare(tmp_path, before, after, key=("a",))
    with pytest.raises(ConfigError, match="no column `d`"):
        compare(tmp_path, before, after, key=("d",))
    found = compare(tmp_path, before, after, key=("a", "b"))

    assert [row.key for row in found.rows] == [["2", "1"]]


def test_a_likely_key_with_one_value_twice_is_not_taken(tmp_path: Path) -> None:
    ids = [*range(99), 0]

    found = compare(tmp_path, {"id": ids, "a": ids}, {"id": ids, "a": [*range(99), 5]})

    assert found.key == []
    assert (found.rows_added, found.rows_removed) == (1, 1)


def test_a_row_without_a_key_whose_label_changed_is_relabelled(tmp_path: Path) -> None:
    found = compare(
        tmp_path,
        {"x": [1.5, 2.5, 2.5], "label": ["a", "a", "b"]},
        {"x": [1.5, 2.5, 2.5], "label": ["c", "a", "b"]},
        label="label",
    )

    assert [(r.before, r.after) for r in found.relabelled] == [("a", "c")]
    assert (found.rows_added, found.rows_removed, found.rows_changed) == (0, 0, 1)
    assert found.classes_before == {"a": 2, "b": 1}
    assert found.classes_after == {"a": 1, "b": 1, "c": 1}


def test_all_relabelled_rows_are_counted_and_the_first_named(tmp_path: Path) -> None:
    numbers = list(range(1500))

    found = compare(
        tmp_path,
        {"id": numbers, "label": ["a"] * 1500},
        {"id": numbers, "label": ["b"] * 1500},
        label="label",
    )

    assert len(found.relabelled) == 1000
    assert found.relabelled[7].path == "table.parquet:7"
    assert found.cells_changed == {"label": 1500}


def test_a_table_without_rows_is_compared_too(tmp_path: Path) -> None:
    empty = {"id": pa.array([], pa.int64()), "a": pa.array([], pa.int64())}

    found = compare(tmp_path, {"id": [1, 2], "a": [1, 2]}, empty)

    assert found.problem == ""
    assert (found.rows_removed, found.rows_after) == (2, 0)


@pytest.mark.parametrize("content", [b"", b"PAR1 not much of it PAR1", b"text"])
def test_a_damaged_file_is_a_problem_with_a_hint(tmp_path: Path, content: bytes) -> None:
    found = compare(tmp_path, {"id": [1]}, content)

    assert "`table.parquet` cannot be read as a table" in found.problem
    assert found.hint


def test_a_byte_order_mark_and_another_delimiter_change_no_row(tmp_path: Path) -> None:
    found = compare(
        tmp_path,
        "\ufeffid,name\n1,Zürich\n2,NA\n".encode(),
        b"id;name\n1;Z\xc3\xbcrich\n2;\n",
        name="cities.csv",
    )

    assert (found.rows_changed, found.rows_added, found.rows_removed) == (0, 0, 0)
    assert found.columns_added == {}
    assert found.notes == ["its values were separated by commas, and are now by semicolons"]


def test_odd_names_of_columns_and_files_are_no_sql(tmp_path: Path) -> None:
    odd = 'a"; DROP TABLE x; --'

    found = compare(
        tmp_path,
        {"id": [1, 2], odd: ["a", "b"]},
        {"id": [1, 2], odd: ["a", "c"]},
        name="it's [odd]*?\n date=1.parquet",
    )

    assert found.problem == ""
    assert found.cells_changed == {odd: 1}


def test_a_row_that_begins_like_a_comment_is_a_row(tmp_path: Path) -> None:
    head = "id,word\n#1,red\n#2,green\n"

    found = compare(tmp_path, f"{head}3,a\n".encode(), f"{head}#4,b\n".encode(), name="t.csv")

    assert (found.rows_before, found.rows_after) == (3, 3)
    assert (found.rows_added, found.rows_removed) == (1, 1)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["2020-01-01", "01/02/2020"], ["2020-01-03", "01/02/2020"]),
        (["1"] * 500_001 + ["x"], ["2"] + ["1"] * 500_000 + ["x"]),  # beyond what tells types
    ],
)
def test_a_column_of_several_types_is_compared_as_text(tmp_path: Path, before, after) -> None:
    texts = [
        "id,v\n" + "".join(f"{number},{value}\n" for number, value in enumerate(side))
        for side in (before, after)
    ]

    found = compare(tmp_path, texts[0].encode(), texts[1].encode(), name="t.csv")

    assert found.problem == ""
    assert [row.key for row in found.rows] == [["0"]]
    assert "as they are written" in found.notes[0]


def test_yes_and_no_are_shown_as_they_are_written(tmp_path: Path) -> None:
    before, after = b"id,left\n1,no\n2,no\n3,yes\n", b"id,left\n1,no\n2,no\n3,maybe\n"

    found = compare(tmp_path, before, after, name="t.csv")

    assert [cell.before for row in found.rows for cell in row.cells] == ["yes"]
    assert found.columns_retyped == []


def test_text_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    found = compare(tmp_path, b"id,v\n1,a\n", "id,v\n1,é\n".encode("latin-1"), name="t.csv")

    assert "is no text in UTF-8" in found.problem
    assert "UTF-8" in found.hint


@pytest.mark.parametrize("lines", ["1,a,b\n2\n", "1,a\r\n2,b\n", '1,"5" pipe\n2,b\n'])
def test_lines_that_are_not_alike_are_said_to_be_so(tmp_path: Path, lines: str) -> None:
    found = compare(tmp_path, b"id,v\n1,a\n", f"id,v\n{lines}".encode(), name="t.csv")

    assert found.problem.startswith("the lines of `t.csv` differ in")
    assert "save it anew" in found.hint


@pytest.mark.parametrize("place", [0, 300_000])
def test_a_line_of_several_megabytes_is_compared(tmp_path: Path, place: int) -> None:
    """Beyond the rows that are looked at first, too."""
    lines = [f"{number},short,a" for number in range(place + 3)]
    lines[place + 1] = f"{place + 1},{'long ' * 700_000},a"
    before = "\n".join(["id,text,label", *lines, ""]).encode()
    lines[place + 1] = lines[place + 1].removesuffix("a") + "b"
    after = "\n".join(["id,text,label", *lines, ""]).encode()

    found = compare(tmp_path, before, after, name="table.csv", label="label")

    assert (found.problem, found.rows_changed, found.rows_added) == ("", 1, 0)
    assert [(one.before, one.after) for one in found.relabelled] == [("a", "b")]
    whole = tmp_path / "new" / "table.csv"
    assert tables.classes(whole, "table.csv", "label", tmp_path)["b"] == 1


def test_a_line_beyond_every_limit_is_said_to_be_so(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tables, "LINE_BYTES", 3 << 20)
    content = b"id,text\n1," + b"x" * (4 << 20) + b"\n2,y\n"

    found = compare(tmp_path, content, content + b"3,z\n", name="table.csv")

    assert found.problem == "a line of `table.csv` is longer than 3 MB"
    assert "Parquet" in found.hint


@pytest.mark.parametrize("kind", [pa.uint64(), pa.int32(), pa.int16()])
def test_whole_numbers_of_another_type_stay_exact(tmp_path: Path, kind: pa.DataType) -> None:
    largest = 2**60 if kind == pa.uint64() else 2**14
    ids = [largest + number for number in range(10)]
    other = [*ids[:-1], largest + 20]

    found = compare(tmp_path, {"id": pa.array(ids, pa.int64())}, {"id": pa.array(other, kind)})

    assert (found.rows_added, found.rows_removed) == (1, 1)
    assert found.key == ["id"]


@pytest.mark.parametrize("name", ["change", "Change", "x_before"])
def test_columns_called_like_those_of_the_file_of_rows_are_all_in_it(tmp_path, name) -> None:
    for key in ((name,), ()):
        before, after = {name: [1, 1 if not key else 2], "x": [1, 1]}, {name: [1, 2], "x": [1, 7]}

        found = compare(tmp_path, before, after, key=key, out=tmp_path / "rows.parquet")

        assert found.problem == ""
        written = pq.read_table(tmp_path / "rows.parquet")
        assert len(set(map(str.lower, written.column_names))) == written.num_columns >= 3
        assert written.column_names[0] == "change"
        assert 7 in [value for column in written.to_pydict().values() for value in column]


def test_long_values_that_begin_alike_are_told_apart(tmp_path: Path) -> None:
    long = "b" * 100_000
    found = compare(
        tmp_path,
        {"id": [1, 2], "w": [f"{long}0", "c" * 150 + "old"]},
        {"id": [1, 2], "w": [f"{long}1", "c" * 150 + "new"]},
    )

    (first,), (second,) = (row.cells for row in found.rows)
    shown = [apart(cell.before, cell.after, 40) for cell in (first, second)]

    assert first.before != first.after
    assert "(100001 characters, md5 " in (first.before or "")
    assert all(before != after for before, after in shown)
    assert shown[1][0].endswith("old")


def test_a_comparison_can_be_stopped_from_another_thread(tmp_path: Path) -> None:
    numbers = pa.array(range(3_000_000), pa.int64())
    for side in ("old", "new"):
        pq.write_table(pa.table({"id": numbers, "t": numbers}), tmp_path / f"{side}.parquet")
    wanted = tables.Wanted(
        "t.parquet", tmp_path / "old.parquet", tmp_path / "new.parquet", tmp_path / "scratch"
    )
    watch = tables.Watch()

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(tables.compare, wanted, watch)
        while not future.done():
            time.sleep(0.01)
            watch.stop()

    assert isinstance(future.exception(), KeyboardInterrupt)
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.slow
def test_two_million_rows_are_compared_in_bounded_memory(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(tables.SETTINGS, "memory_limit", "120MB")
    numbers = pa.array(range(2_000_000), pa.int64())
    texts = pa.array([f"row {n}" for n in range(2_000_000)])

    found = compare(
        tmp_path,
        {"id": numbers, "t": texts},
        {"id": numbers, "t": pa.array([f"row {n // 2 * 2}" for n in range(2_000_000)])},
    )

    assert found.rows_changed == 1_000_000
    assert not list((tmp_path / "scratch").iterdir())
