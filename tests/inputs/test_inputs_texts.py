"""Texts become the same numbers of tokens in training, in another process, and from the cache."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mlstack.errors import DataError, MachineError
from mlstack.inputs import preprocess, texts, tokens
from mlstack.inputs.texts import TextSpec, learn

SAID = ["the cat sat on the mat", "the dog sat on the log", "Grüße aus Zürich", "", "猫がいる"]
OTHER_PROCESS = """
import json, sys
from mlstack.inputs.texts import learn
spec = learn(json.loads(sys.argv[1]), "text", 320, 8)
print(json.dumps(spec.to_json()))
"""


@pytest.fixture(scope="module")
def spec() -> TextSpec:
    return learn(SAID * 20, "text", 320, 8)


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """Where a run's table of examples lies."""
    folder = tmp_path / ".mlstack" / "runs" / "r"
    folder.mkdir(parents=True)
    return folder / "examples.parquet"


def test_what_a_package_keeps_encodes_as_what_was_learned(spec: TextSpec) -> None:
    kept = preprocess.from_json(json.loads(json.dumps(spec.to_json())))

    rows = [{"text": text} for text in SAID]
    assert isinstance(kept, TextSpec)
    assert np.array_equal(kept.encode(rows), spec.encode(rows))
    assert preprocess.shape(kept) == [8]
    assert preprocess.datatype(kept) == "int32"
    assert spec.encode(rows).dtype == np.int32


def test_another_process_learns_the_same(spec: TextSpec) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS, json.dumps(SAID * 20)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "1"},
    )

    assert json.loads(done.stdout) == spec.to_json()


def test_any_text_is_read_and_none_is_unknown(spec: TextSpec) -> None:
    given = ["a\x00b", "🦄" * 3, "مرحبا", " \n\t", "x" * 10_000, "\ud83d half a character"]

    encoded = spec.encode([{"text": text} for text in given])

    assert encoded.shape == (6, 8)
    assert (encoded[:, 0] != texts.PAD_ID).all()
    assert encoded.max() < spec.vocabulary <= 320


def test_a_missing_text_is_empty_and_a_further_column_is_ignored(spec: TextSpec) -> None:
    encoded = spec.encode([{"text": None}, {"text": "", "note": 3}])

    assert (encoded == texts.PAD_ID).all()


@pytest.mark.parametrize(
    ("row", "said"),
    [({"txt": "a"}, "row 2 has no column `text`"), ({"text": 5}, "needs a text, got `5`")],
)
def test_a_wrong_row_is_named(spec: TextSpec, row: dict[str, object], said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        spec.encode([{"text": "good"}, row])

    assert caught.value.where == "rows[1].text"


def test_tokens_are_described_by_their_number_and_their_bytes(spec: TextSpec) -> None:
    encoded, described = spec.read([{"text": "the"}, {"text": ""}, {"text": "猫"}])

    count, length = described[0]
    assert count == (encoded[0] != 0).sum()
    assert count * length == 3
    assert described[1][0] == 0
    assert np.isnan(described[1][1])
    assert described[2][0] * described[2][1] == len("猫".encode())
    assert np.array_equal(spec.narrow(encoded), described, equal_nan=True)


@pytest.mark.parametrize(
    ("given", "column", "vocabulary", "length", "said"),
    [
        (["", ""], "text", 320, 8, "is empty in the training rows"),
        (["a"], "prediction", 320, 8, "cannot be called `prediction`"),
        (["a"], "tokens", 320, 8, "cannot be called `tokens`"),
        (["a"], "text", 100, 8, "vocabulary of 100"),
        (["a"], "text", 320, 0, "texts of 0 tokens"),
    ],
)
def test_what_cannot_be_learned_is_refused(
    given: list[str], column: str, vocabulary: int, length: int, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        learn(given, column, vocabulary, length)


def test_without_the_package_the_command_to_type_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)

    with pytest.raises(MachineError) as caught:
        learn(["a"], "text", 320, 8)

    assert caught.value.hint == "pip install 'mlstack[text]'"


def test_a_damaged_tokenizer_is_a_clear_error(spec: TextSpec) -> None:
    stored = spec.to_json() | {"tokenizer": {"version": "1.0", "model": {"type": "?"}}}

    with pytest.raises(DataError, match="the tokenizer cannot be read"):
        TextSpec.from_json(stored).encode([{"text": "a"}])


def test_texts_are_tokenised_once_and_mapped_afterwards(
    spec: TextSpec, examples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pa.table({"text": [*SAID, None], "label": list("abcdef")})
    first = tokens.encoded(examples, spec, table)
    monkeypatch.setattr(TextSpec, "encode_texts", lambda *_: pytest.fail("tokenised again"))

    again = tokens.encoded(examples, spec, table)

    assert isinstance(again, np.memmap)
    assert np.array_equal(first, again)
    monkeypatch.undo()
    assert np.array_equal(again, spec.encode(table.select(["text"]).to_pylist()))
    again[0] = 0  # changes stay in memory
    assert np.array_equal(first, tokens.encoded(examples, spec, table))


def test_other_texts_or_another_tokenizer_are_kept_apart(spec: TextSpec, examples: Path) -> None:
    shorter = TextSpec(spec.column, 4, learn(SAID, "text", 320, 4).tokenizer)
    first = tokens.encoded(examples, spec, pa.table({"text": ["ab", "c"]}))
    moved = tokens.encoded(examples, spec, pa.table({"text": ["a", "bc"]}))
    short = tokens.encoded(examples, shorter, pa.table({"text": ["ab", "c"]}))

    assert not np.array_equal(first, moved)
    assert short.shape == (2, 4)
    assert len(list((examples.parents[2] / "tokens").glob("*.npy"))) == 3


def test_a_part_without_a_row_has_no_text(spec: TextSpec, examples: Path) -> None:
    assert tokens.encoded(examples, spec, pa.table({})).shape == (0, spec.length)


def test_only_the_newest_are_kept(
    spec: TextSpec, examples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "KEPT", 3)
    for number in range(6):
        found = tokens.encoded(examples, spec, pa.table({"text": [f"text {number}"]}))

    kept = examples.parents[2] / "tokens"
    assert len(list(kept.glob("*.npy"))) == 3
    assert np.array_equal(found, tokens.encoded(examples, spec, pa.table({"text": ["text 5"]})))


def test_a_column_that_is_no_text_is_named_with_those_that_are_there() -> None:
    table = pa.table({"n": [1, 2], "words": ["a", "b"]})

    with pytest.raises(DataError, match="holds int64, not text"):
        tokens.texts_of(table, "n")
    with pytest.raises(DataError) as caught:
        tokens.texts_of(table, "text")
    assert "n, words" in caught.value.hint


@pytest.mark.parametrize(
    ("lengths", "kept"), [([3, 5], 8), ([8], 8), ([9, 1], 16), ([0], 8), ([20], 20)]
)
def test_what_only_fills_up_is_left_out_in_steps(lengths: list[int], kept: int) -> None:
    encoded = np.zeros((len(lengths), 20), np.int32)
    for row, count in zip(encoded, lengths, strict=True):
        row[:count] = 7

    short = texts.shortened(encoded)

    assert short.shape == (len(lengths), kept)
    assert short.sum() == encoded.sum()


def test_a_package_says_whether_texts_may_be_shortened(spec: TextSpec) -> None:
    proven = preprocess.from_json(spec.to_json() | {"shortens": True})

    assert isinstance(proven, TextSpec)
    assert proven.shortens
    assert not spec.shortens
    assert proven.to_json() == spec.to_json() | {"shortens": True}


@pytest.mark.parametrize("part", ["padding", "truncation"])
def test_a_tokenizer_that_gives_another_number_of_tokens_is_refused(part: str) -> None:
    stored = texts.learn(["hello there"], "body", 300, 24).to_json()
    stored["tokenizer"][part] = None
    spec = TextSpec.from_json(stored)

    with pytest.raises(DataError, match="does not give 24 tokens"):
        spec.encode([{"body": "hello"}])
