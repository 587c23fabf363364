"""Features from training to the server: looked up by one code, equal to 1e-6."""

import datetime as dt
import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

ROWS, CUSTOMERS = 1000, 40
START = dt.datetime(2026, 1, 1)


def mlstack(folder: Path, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "mlstack", *arguments],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def make(root: Path) -> None:
    """Write visits of customers, and what was known of them over time."""
    dice = random.Random(3)
    data = root / "data" / "cancer"
    (data / "features").mkdir()
    known = {"customer": [], "at": [], "spend": [], "tier": []}
    for customer in range(CUSTOMERS):
        for hour in range(customer % 3 * 20, 1000, 37):
            known["customer"].append(customer)
            known["at"].append(START + dt.timedelta(hours=hour))
            known["spend"].append(dice.uniform(0, 100) if dice.random() > 0.05 else None)
            known["tier"].append(dice.choice(["gold", "silver"]))
    pq.write_table(pa.table(known), data / "features" / "customers.parquet")
    values: dict[int, list[tuple[dt.datetime, float | None]]] = {}
    for customer, moment, spend in zip(*list(known.values())[:3], strict=True):
        values.setdefault(customer, []).append((moment, spend))
    lines = ["customer,at,age,bought"]
    for _ in range(ROWS):
        customer = dice.randrange(CUSTOMERS)
        moment = START + dt.timedelta(hours=dice.uniform(0, 1000))
        spend = max((v for v in values[customer] if v[0] <= moment), default=(0, None))[1]
        bought = "yes" if (spend or 0) > 50 else "no"
        lines.append(f"{customer},{moment.isoformat()},{dice.randint(18, 80)},{bought}")
    (data / "table.csv").write_text("\n".join(lines) + "\n")
    text = (root / "mlstack.yaml").read_text()
    features = "{key: customer, time: at, files: [features/customers.parquet], ttl: 36h}"
    for old, new in (
        ("label: label ", "label: bought "),
        ("args: {ignore: []}", f"args: {{ignore: []}}\n  features: {features}"),
        ("features: 30", "features: 5"),
        ("validation: {test/acc: {min: 0.9}}", "validation: {test/acc: {min: 0.3}}"),
        ("metric: acc, min: 0.8", "metric: acc, min: 0.1"),
    ):
        assert old in text
        text = text.replace(old, new)
    (root / "mlstack.yaml").write_text(text)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("features")
    mlstack(folder, "init", "shop", "--template", "tabular")
    make(folder / "shop")
    mlstack(folder / "shop", "version", "check")
    mlstack(folder / "shop", "version", "snapshot", "-m", "visits")
    mlstack(folder / "shop", "train", "--epochs", "4")
    mlstack(folder / "shop", "export")
    return folder / "shop"


@pytest.fixture(scope="module")
def http(root: Path) -> Iterator[httpx.Client]:
    command = [sys.executable, "-m", "mlstack", "serve", "--port", "0", "--json"]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if url := json.loads(line).get("url"):
                break
        with httpx.Client(base_url=url, timeout=60) as client:
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        process.stdout.close()


def asked(root: Path) -> list[dict]:
    lines = (root / "data" / "cancer" / "table.csv").read_text().splitlines()[1:]
    cells = [line.split(",") for line in lines]
    return [{"customer": int(c), "at": at, "age": int(age)} for c, at, age, _ in cells]


def trained_on(root: Path) -> list[dict]:
    (wide,) = (root / ".mlstack" / "features").glob("*.parquet")
    return pq.read_table(wide).drop_columns(["bought"]).to_pylist()


def answers(http: httpx.Client, rows: list[dict]) -> np.ndarray:
    found = http.post("/predict", json={"rows": rows})
    assert found.status_code == 200, found.text
    return np.array([list(one["probabilities"].values()) for one in found.json()["predictions"]])


def test_the_server_looks_up_what_training_saw(root: Path, http: httpx.Client):
    looked_up, brought = answers(http, asked(root)), answers(http, trained_on(root))

    assert looked_up.shape == (ROWS, 2)
    assert np.abs(looked_up - brought).max() <= 1e-6
    assert len(np.unique(looked_up.round(6), axis=0)) > ROWS / 2  # the values do matter


def test_the_package_says_what_is_looked_up_and_learns_from_neither_key_nor_time(root: Path):
    signature = json.loads((root / "models/shop/1/mlstack/signature.json").read_text())

    assert signature["preprocess"]["features"]["folder"] == "data/cancer"
    assert set(signature["preprocess"]["numbers"]) == {"age", "spend"}
    assert set(signature["preprocess"]["categories"]) == {"tier"}


def test_a_key_that_cannot_be_read_is_the_callers_mistake(http: httpx.Client):
    answer = http.post("/predict", json={"customer": "x", "at": "2026-01-02", "age": 3})

    assert answer.status_code == 400
    assert "cannot be read" in answer.text


def test_a_row_in_a_file_is_looked_up_without_a_server_too(root: Path, http, tmp_path: Path):
    row = asked(root)[1]
    (tmp_path / "row.json").write_text(json.dumps(row))

    said = json.loads(mlstack(root, "serve", "predict", str(tmp_path / "row.json"), "--json"))

    (alone,) = said["predictions"]
    served = http.post("/predict", json=row).json()
    assert alone["prediction"] == served["prediction"]
    assert abs(alone["confidence"] - served["confidence"]) < 1e-5


def test_the_description_of_the_server_names_key_and_time(http: httpx.Client):
    described = http.get("/openapi.json").json()["components"]["schemas"]["KeyedRow"]

    assert set(described["properties"]) == {"customer", "at", "age"}
    assert described["required"] == ["customer", "age"]
