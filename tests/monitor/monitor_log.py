"""A served digits model without a server: its package's side files, and a log of our making."""

import functools
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from mlstack.inputs import images
from mlstack.records import package, requests
from mlstack.records.base import Record, write
from mlstack.records.layout import Layout
from mlstack.records.reference import CategoryColumn, NumericColumn, Reference
from mlstack.stats import binning

TEMPLATE = Path(__file__).parents[2] / "templates" / "image-classification"
MODEL = "my_project"
HOUR_US = 3_600_000_000
START_US = 1_767_348_000_000_000  # 2026-01-02 10:00 UTC
SPEC = images.ImageSpec(16, 16, 1)
CLASSES = [str(digit) for digit in range(10)]


@functools.cache
def sheet() -> tuple[np.ndarray, np.ndarray]:
    """All digits of the template: uint8 (1797, 8, 8) and their labels."""
    whole = np.asarray(Image.open(TEMPLATE / "data" / "digits.png"))
    labels = np.asarray(list((TEMPLATE / "data" / "digits.txt").read_text().strip()))
    tiles = whole.reshape(30, 8, 60, 8).swapaxes(1, 2).reshape(-1, 8, 8)[: len(labels)]
    return tiles, labels


def last(records: Iterator[Record]) -> Any:
    """Give what a command was called for; progress comes before it."""
    *_, result = records
    return result


def png(picture: np.ndarray) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(picture).save(sink, "PNG")
    return sink.getvalue()


def shift(pictures: np.ndarray, pixels: int) -> np.ndarray:
    """Move pictures to the right, black behind them."""
    moved = np.zeros_like(pictures)
    moved[:, :, pixels:] = pictures[:, :, :-pixels]
    return moved


@functools.cache
def _features_of_all(pixels: int) -> np.ndarray:
    pictures = shift(sheet()[0], pixels) if pixels else sheet()[0]
    return images.features(np.stack([images.decode(png(one), SPEC) for one in pictures]))


def features(rows: np.ndarray, *, pixels: int = 0) -> dict[str, np.ndarray]:
    """The monitored features of some digits, decoded and resized as serving does."""
    found = _features_of_all(pixels)[rows]
    return {name: found[:, place] for place, name in enumerate(images.FEATURES)}


def make_reference(
    columns: dict[str, np.ndarray], predictions: np.ndarray, accuracy: float = 0.96
) -> Reference:
    numeric = []
    for name, values in columns.items():
        edges = binning.edges(values)
        counts, missing = binning.counts(values, edges)
        numeric.append(
            NumericColumn(
                name=name,
                edges=edges.tolist(),
                counts=counts.tolist(),
                missing=missing,
                mean=float(values.mean()),
                deviation=float(values.std()),
            )
        )
    counted = {name: int((predictions == name).sum()) for name in CLASSES}
    return Reference(
        rows=len(predictions),
        origin="val+test of a test",
        numeric=numeric,
        categories=[CategoryColumn(name="prediction", counts=counted)],
        classes=CLASSES,
        accuracy=accuracy,
    )


def confidences(rows: int, seed: int, worse: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).beta(20 - 15 * worse, 1, rows)


@dataclass
class Log:
    """Rows of the request log, to be changed and then written."""

    columns: dict[str, list] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: int, *, seed: int = 0, pixels: int = 0, version: int = 1) -> "Log":
        """Predictions one second apart, of random digits shifted by `pixels`."""
        chosen = np.random.default_rng(seed).permutation(1797)[:rows]
        if rows > 1797:
            chosen = np.random.default_rng(seed).integers(0, 1797, rows)
        pictures, labels = sheet()
        shown = shift(pictures, pixels) if pixels else pictures
        said = labels[chosen]
        if pixels:  # what a model does with digits it has never seen: sevens and ones
            moved = np.random.default_rng(seed + 1).random(rows) < 0.4
            said = np.where(moved, "7", said)
        columns = {
            "prediction_id": [f"p{seed}-{version}-{row}" for row in range(rows)],
            "request_id": [""] * rows,
            "ts_us": [START_US + row * 1_000_000 for row in range(rows)],
            "model": [MODEL] * rows,
            "version": [version] * rows,
            "route": ["predict"] * rows,
            "status": [200] * rows,
            "error": [None] * rows,
            "latency_us": [2000 + row % 100 * 10 for row in range(rows)],
            "batch": [1] * rows,
            "prediction": said.tolist(),
            "confidence": confidences(rows, seed, worse=0.8 if pixels else 0).tolist(),
            "probabilities": [None] * rows,
            "input": [png(one) for one in shown[chosen]] if rows < 2000 else [None] * rows,
        }
        for name, values in features(chosen, pixels=pixels).items():
            columns[requests.FEATURE + name] = values.tolist()
        return cls(columns)

    def later(self, hours: float) -> "Log":
        moved = [ts + int(hours * HOUR_US) for ts in self.columns["ts_us"]]
        return Log(self.columns | {"ts_us": moved})

    def fail(self, rows: int, status: int = 500) -> "Log":
        """Turn the last rows into failures: answered with an error, without a prediction."""
        columns = {name: list(values) for name, values in self.columns.items()}
        for name, value in {"status": status, "prediction": None, "confidence": None}.items():
            columns[name][-rows:] = [value] * rows
        for name in images.FEATURES:
            columns[requests.FEATURE + name][-rows:] = [None] * rows
        return Log(columns)

    def table(self) -> pa.Table:
        return pa.table(self.columns, schema=requests.schema(list(images.FEATURES)))


@dataclass
class Watched:
    """A project with a live package, to write a log into."""

    root: Path

    @property
    def layout(self) -> Layout:
        return Layout(self.root)

    @property
    def config(self) -> Path:
        return self.root / "mlstack.yaml"

    def part(
        self,
        log: Log,
        name: str = "part-1-1.parquet",
        hour: str = "10",
        date: str = "2026-01-02",
    ) -> Path:
        folder = self.layout.requests / requests.partition(MODEL, date, hour)
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(log.table(), folder / name)
        return folder / name

    def wal(self, log: Log, name: str = "m-1-1.arrows", batches: int = 1) -> Path:
        folder = self.layout.requests / requests.WAL
        folder.mkdir(parents=True, exist_ok=True)
        table = log.table()
        step = max(1, -(-table.num_rows // batches))
        path = str(folder / name)
        with pa.OSFile(path, "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
            for start in range(0, table.num_rows, step):
                stream.write_table(table.slice(start, step))
        return folder / name

    def feedback(self, ids: list[str], labels: list[str], ts_us: int = START_US) -> None:
        self.layout.feedback.mkdir(parents=True, exist_ok=True)
        rows = {"prediction_id": ids, "label": labels, "ts_us": [ts_us] * len(ids)}
        number = len(list(self.layout.feedback.iterdir()))
        path = self.layout.feedback / f"part-{number}.parquet"
        pq.write_table(pa.table(rows, schema=requests.FEEDBACK_SCHEMA), path)

    def set(self, text: str) -> None:
        """Put settings below `monitor:` at the end of the project file."""
        self.config.write_text(self.config.read_text().rstrip() + "\n" + text + "\n")


def add_package(root: Path, number: int = 1, *, live: bool = True) -> Path:
    """Write the side files of a package that monitor reads."""
    layout = Layout(root)
    side = layout.package(MODEL, number) / package.SIDE
    half = np.random.default_rng(99).permutation(1797)[:360]
    columns = features(half) | {"confidence": confidences(360, 99)}
    write(side / "reference.json", make_reference(columns, sheet()[1][half]))
    signature = package.Signature(
        task="image-classification",
        inputs=[package.Tensor(name="images", datatype="UINT8", shape=[-1, 16, 16, 1])],
        outputs=[],
        classes=CLASSES,
        preprocess=SPEC.to_json(),
    )
    write(side / "signature.json", signature)
    (side / "golden").mkdir()
    (side / "golden" / "00.png").write_bytes(png(sheet()[0][0]))
    example = package.GoldenExample(file="00.png", label="0", prediction="0", probabilities=[])
    write(side / "golden.json", package.Golden(tolerance=0.01, examples=[example]))
    if live:
        write(layout.model(MODEL) / "live.json", package.Live(live=number))
    return side
