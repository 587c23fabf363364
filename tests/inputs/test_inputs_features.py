"""Features as of a moment, against a plain loop that looks at every row."""

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlstack.errors import ConfigError, DataError
from mlstack.inputs.features import Features, FeatureSpec

START = dt.datetime(2026, 1, 1)


def at(hours: float) -> dt.datetime:
    return START + dt.timedelta(hours=hours)


def spec(ttl: str | None = None, files: tuple[str, ...] = ("f.parquet",)) -> FeatureSpec:
    settings = {"key": "who", "time": "at", "files": list(files), "ttl": ttl}
    return FeatureSpec.from_settings(settings)


def write(folder: Path, name: str = "f.parquet", **columns: Any) -> None:
    pq.write_table(pa.table(columns), folder / name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, who=[1, 1, 2], at=[at(1), at(3), at(2)], n=[10, 30, 20], s=["a", "b", None])
    return tmp_path


def attach(folder: Path, wanted: FeatureSpec, *, keep: bool = False, **columns: Any) -> list[dict]:
    with Features(wanted, folder, keep=keep) as features:
        return features.attach(pa.table(columns)).to_pylist()


@pytest.mark.parametrize("keep", [False, True])
def test_a_row_gets_the_newest_value_that_is_not_from_its_future(folder: Path, keep: bool):
    found = attach(folder, spec(), keep=keep, who=[1] * 4, at=[at(0.9), at(1), at(2.9), at(3)])

    assert [row["n"] for row in found] == [None, 10, 10, 30]
    assert [row["s"] for row in found] == [None, "a", "a", "b"]


def test_a_key_that_nobody_knows_gets_nothing(folder: Path):
    found = attach(folder, spec(), who=[3, None], at=[at(9), at(9)])

    assert found == [{"n": None, "s": None}] * 2


def test_what_is_older_than_the_time_to_live_is_missing(folder: Path):
    found = attach(folder, spec("30m"), who=[1, 1], at=[at(1.5), at(1.6)])

    assert [row["n"] for row in found] == [10, None]


def test_rows_keep_their_order_and_their_own_columns(folder: Path):
    found = attach(
        folder, spec(), who=[2, 1, 2, 1], at=[at(9), at(9), at(0), at(0)], own=[1, 2, 3, 4]
    )

    assert [(row["own"], row["n"]) for row in found] == [(1, 20), (2, 30), (3, None), (4, None)]
    assert list(found[0]) == ["own", "n", "s"]


@pytest.mark.parametrize(
    "moment", ["2026-01-01T03:00:00", "2026-01-01 03:00:00.000000Z", "2026-01-01T05:00:00+02:00"]
)
def test_a_time_may_be_text_and_is_utc_unless_it_says_otherwise(folder: Path, moment: str):
    found = attach(folder, spec(), who=["1"], at=[moment])

    assert found[0]["n"] == 30


def test_several_files_are_joined_each_by_its_own_time(folder: Path):
    write(folder, "g.parquet", who=[1], at=[at(2)], other=[0.5])

    found = attach(folder, spec(files=("f.parquet", "g.parquet")), who=[1, 1], at=[at(1), at(2)])

    assert found == [{"n": 10, "s": "a", "other": None}, {"n": 10, "s": "a", "other": 0.5}]


moments = st.tuples(st.integers(0, 3), st.integers(0, 20))


@settings(max_examples=40, deadline=None)
@given(
    known=st.dictionaries(moments, st.integers(-9, 9), max_size=30),
    asked=st.lists(moments, min_size=1, max_size=30),
    ttl=st.none() | st.integers(1, 10),
)
def test_every_row_gets_what_a_plain_loop_finds(tmp_path_factory, known, asked, ttl):
    folder = tmp_path_factory.mktemp("f")
    write(
        folder,
        who=pa.array([key for key, _ in known], pa.int64()),
        at=pa.array([at(time) for _, time in known], pa.timestamp("us")),
        n=pa.array(list(known.values()), pa.int64()),
    )
    wanted = spec(None if ttl is None else f"{ttl}h")
    columns = {"who": [key for key, _ in asked], "at": [at(time) for _, time in asked]}

    kept = attach(folder, wanted, keep=True, **columns)

    assert attach(folder, wanted, **columns) == kept
    assert [row["n"] for row in kept] == [_looked_up(known, *one, ttl) for one in asked]


def _looked_up(known: dict[tuple[int, int], int], key: int, time: int, ttl: int | None):
    fitting = [t for k, t in known if k == key and t <= time]
    newest = max(fitting, default=None)
    is_old = newest is not None and ttl is not None and time - newest > ttl
    return None if newest is None or is_old else known[key, newest]


def test_rows_of_a_request_get_the_same_values_as_a_table(folder: Path):
    table = {"who": [1, 2, 1], "at": [at(1.5), at(9), at(0)], "own": [1.0, 2.0, 3.0]}
    offline = attach(folder, spec(), **table)
    rows = [
        {"who": who, "at": moment.isoformat(), "own": own}
        for who, moment, own in zip(*table.values(), strict=True)
    ]

    with Features(spec(), folder, keep=True) as features:
        online = features.fill(rows, now="2030-01-01")

    assert [{name: row[name] for name in offline[0]} for row in online] == offline


def test_a_request_without_a_time_means_now(folder: Path):
    with Features(spec(), folder, keep=True) as features:
        found = features.fill([{"who": 1}], now="2026-01-01T02:00:00+00:00")

    assert found == [{"who": 1, "n": 10, "s": "a"}]


def test_rows_that_bring_their_values_are_left_alone(folder: Path):
    with Features(spec(), folder, keep=True) as features:
        assert features.fill([{"n": 5, "s": "x"}], now="2026-01-01") == [{"n": 5, "s": "x"}]


def test_a_file_that_was_replaced_is_read_anew(folder: Path):
    with Features(spec(), folder, keep=True) as features:
        features.fill([{"who": 1}], now="2030-01-01")
        (folder / "f.parquet").unlink()
        write(folder, who=[1], at=[at(5)], n=[99], s=["new"])

        found = features.fill([{"who": 1}], now="2030-01-01")

    assert found[0]["n"] == 99


def test_two_values_of_one_moment_are_refused(folder: Path):
    write(folder, who=[7, 7], at=[at(1), at(1)], n=[1, 2], s=["a", "b"])

    with pytest.raises(DataError, match="two rows of `who` 7"):
        attach(folder, spec(), who=[7], at=[at(2)])


@pytest.mark.parametrize(
    ("columns", "error", "says"),
    [
        ({"who": [1]}, DataError, "no column `at`"),
        ({"who": ["x"], "at": [at(1)]}, DataError, "cannot be read"),
        ({"who": [1], "at": ["yesterday"]}, DataError, "cannot be read"),
        ({"who": [1], "at": [at(1)], "n": [1]}, ConfigError, "column `n` already"),
    ],
)
def test_rows_that_cannot_be_joined_are_named(folder: Path, columns, error, says):
    with pytest.raises(error, match=says):
        attach(folder, spec(), **columns)


def test_a_file_that_is_not_there_or_no_table_or_lacks_a_column_is_named(folder: Path):
    write(folder, "lacking.parquet", who=[1], n=[1])
    write(folder, "odd.parquet", who=[1], at=[at(1)], when=[at(1)])
    (folder / "text.parquet").write_text("no table")

    for name, says in (
        ("none.parquet", "none.parquet"),
        ("text.parquet", "text.parquet"),
        ("lacking.parquet", "no column `at`"),
        ("odd.parquet", "column `when`"),
    ):
        with pytest.raises(DataError, match=says):
            Features(spec(files=(name,)), folder)


def test_two_files_may_not_give_one_column(folder: Path):
    write(folder, "g.parquet", who=[1], at=[at(1)], n=[1])

    with pytest.raises(ConfigError, match="two files give the column `n`"):
        Features(spec(files=("f.parquet", "g.parquet")), folder)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"who": [1], "at": [1_700_000_000], "n": [1]}, "`at` of `f.parquet` holds int64"),
        ({"who": [1], "at": ["yesterday"], "n": [1]}, "`f.parquet` cannot be read.*yesterday"),
        ({"who": [1], "at": [START], "n": [1], "N": [2]}, "two columns `n`"),
        ({"who": [1], "Who": [2], "at": [START], "n": [2]}, "two columns `who`"),
        ({"who": [1], "at": [START], "__key": [2]}, "a name of ours"),
    ],
)
def test_a_file_that_would_give_wrong_values_is_refused(tmp_path: Path, keep, columns, says):
    write(tmp_path, **columns)

    with pytest.raises(DataError, match=says):
        attach(tmp_path, spec(), keep=keep, who=[1], at=[at(2)])


@pytest.mark.parametrize("broken", ["half", "absent", "without a column", "no times"])
def test_a_replaced_file_that_is_broken_leaves_the_values_of_before(folder: Path, broken: str):
    place = folder / "f.parquet"
    whole = place.read_bytes()
    with Features(spec(), folder, keep=True) as features:
        if broken == "half":
            place.write_bytes(whole[: len(whole) // 2])
        elif broken == "absent":
            place.unlink()
        elif broken == "without a column":
            write(folder, who=[1], at=[at(1)], n=[99])
        else:
            write(folder, who=[1], at=["soon"], n=[99], s=["x"])

        found = [features.fill([{"who": 1}], now="2030-01-01")[0]["n"] for _ in range(2)]
        said = features.problems()
        write(folder, who=[1], at=[at(5)], n=[99], s=["new"])
        again = features.fill([{"who": 1}], now="2030-01-01")[0]["n"]

    assert found == [30, 30]
    assert len(said) == 1
    assert "f.parquet" in said[0]
    assert again == 99
    assert features.problems() == []
