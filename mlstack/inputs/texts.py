"""Texts -> numbers of tokens: the library `tokenizers`, one code for training and serving.

A row is a dict from column to value as in `tables`; one column holds the text. The tokenizer is
byte-pair encoding of bytes (Sennrich et al. 2016), learned from the training texts, so no text
holds anything that is unknown to it. It is kept with the model as the library's own JSON.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

import msgspec
import numpy as np

from mlstack.errors import DataError, MachineError
from mlstack.inputs import tables
from mlstack.inputs.stored import convert
from mlstack.inputs.tables import TAKEN, Row

PAD, PAD_ID = "[PAD]", 0
FEATURES = ("tokens", "token_length")
MOST_TOKENS = 8192  # of one text
STEP = 8  # what is shortened keeps a multiple of so many tokens
FEWEST_IN_VOCABULARY = 300  # 256 bytes and the filler come first


@dataclass(frozen=True)
class TextSpec:
    """How rows with a text become an array: learned from the training texts."""

    column: str
    length: int  # tokens of a text; what is longer is cut
    tokenizer: dict[str, Any]  # the library's own description
    shortens: bool = False  # fewer tokens than `length` are answered the same; export proves it

    @property
    def fields(self) -> list[str]:
        """Name what a row must hold."""
        return [self.column]

    @property
    def texts(self) -> list[str]:
        """Name the columns that hold text."""
        return [self.column]

    @property
    def columns(self) -> list[str]:
        """Name what is monitored: how many tokens a text has, and how many bytes one has."""
        return list(FEATURES)

    @property
    def vocabulary(self) -> int:
        """Count the tokens that there are, the filler included."""
        return len(self._lengths)

    def to_json(self) -> dict[str, Any]:
        """Give what `signature.json` keeps under `preprocess`."""
        return {
            "kind": "text",
            "column": self.column,
            "length": self.length,
            "tokenizer": self.tokenizer,
            **({"shortens": True} if self.shortens else {}),
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "TextSpec":
        """Read what `to_json` gave.

        Raises:
            DataError: it describes something else.
        """
        found = convert(stored, "text", cls, ("column", "length", "tokenizer"))
        if not 0 < found.length <= MOST_TOKENS:
            raise DataError(f"texts of {found.length} tokens are not read")
        return found

    def encode(self, rows: list[Row]) -> np.ndarray:
        """Turn rows into int32 of shape (rows, length), the graph's input; 0 fills short texts.

        Raises:
            DataError: a row has no text; row and column are named, as `where` too.
        """
        return self.encode_texts(tables.column_of(rows, self.column, _text))

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        """Turn texts into int32 of shape (texts, length)."""
        encoded = np.zeros((len(texts), self.length), dtype=np.int32)
        for row, found in zip(encoded, self._opened.encode_batch_fast(texts), strict=True):
            row[:] = found.ids
        return encoded

    def read(self, rows: list[Row]) -> tuple[np.ndarray, np.ndarray]:
        """Give rows encoded, and what is monitored of them.

        Raises:
            DataError: as `encode`.
        """
        encoded = self.encode(rows)
        return encoded, self.narrow(encoded)

    def narrow(self, encoded: np.ndarray) -> np.ndarray:
        """Describe encoded texts: float32 (rows, 2), tokens and mean bytes of a token."""
        known = np.clip(encoded, 0, self.vocabulary - 1)
        count = (known != PAD_ID).sum(axis=1)
        length = self._lengths[known].sum(axis=1)
        with np.errstate(invalid="ignore"):
            mean = np.where(count > 0, length / np.maximum(count, 1), np.nan)
        return np.stack([count, mean], axis=1).astype(np.float32)

    @cached_property
    def _opened(self) -> Any:
        tokenizers = _library()
        try:
            made = tokenizers.Tokenizer.from_str(msgspec.json.encode(self.tokenizer).decode())
        except Exception as error:  # the library raises nothing of its own
            raise DataError(f"the tokenizer cannot be read: {error}") from error
        given = (made.padding or {}).get("length"), (made.truncation or {}).get("max_length")
        if given != (self.length, self.length):
            raise DataError(f"the tokenizer does not give {self.length} tokens of every text")
        return made

    @cached_property
    def _lengths(self) -> np.ndarray:
        """Give the bytes of each token, float32 (vocabulary,); the filler has none."""
        known = self._opened.get_vocab()
        lengths = np.zeros(max(known.values()) + 1, dtype=np.float32)
        for token, place in known.items():
            lengths[place] = 0 if place == PAD_ID else len(token)  # one character stands for a byte
        return lengths


def shortened(encoded: np.ndarray) -> np.ndarray:
    """Leave out the last tokens where they only fill up: (rows, length) -> (rows, fewer)."""
    used = np.flatnonzero((encoded != PAD_ID).any(axis=0))
    needed = int(used[-1]) + 1 if used.size else 1
    return encoded[:, : -(-needed // STEP) * STEP]


def learn(texts: Iterable[str], column: str, vocabulary: int, length: int) -> TextSpec:
    """Learn from training texts how to encode any.

    Args:
        texts: those of train.
        column: their name in a row.
        vocabulary: tokens that are learned at most, the 256 bytes and the filler included.
        length: tokens of a text that are read.

    Raises:
        DataError: there is no text, or the column's name is taken.
        MachineError: the package `tokenizers` is not installed.
    """
    tokenizers = _library()
    if column in (*TAKEN, *FEATURES):
        raise DataError(f"a column cannot be called `{column}`", hint="rename it in the table")
    if not (vocabulary >= FEWEST_IN_VOCABULARY and 0 < length <= MOST_TOKENS):
        raise DataError(
            f"a vocabulary of {vocabulary} and texts of {length} tokens cannot be learned",
            hint=f"take at least {FEWEST_IN_VOCABULARY}, and 1 to {MOST_TOKENS}",
        )
    given = [text for text in texts if text]
    if not given:
        raise DataError(f"column `{column}` is empty in the training rows")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.normalizer = tokenizers.normalizers.NFC()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD],
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(given, trainer)
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length, pad_id=PAD_ID, pad_token=PAD)
    return TextSpec(column, length, msgspec.json.decode(tokenizer.to_str()))


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"needs a text, got {tables.shown(value)}")
    return value.encode("utf-8", "replace").decode()  # JSON may hold halves of a character


def _library() -> Any:
    """Load `tokenizers`: an extra, for whoever has texts."""
    try:
        return import_module("tokenizers")
    except ModuleNotFoundError as error:
        raise MachineError(
            "texts need `tokenizers`, which is not installed", hint="pip install 'mlstack[text]'"
        ) from error
