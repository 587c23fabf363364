"""The story of a table: made, versioned, trained, packed, served, asked and watched."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import described
import httpx
import pytest
from playwright.sync_api import sync_playwright

CHROMIUM = next(filter(os.path.exists, ["/usr/bin/chromium", "/usr/bin/chromium-browser"]), None)
pytestmark = [pytest.mark.slow, pytest.mark.e2e]

Row = dict[str, Any]


def mlstack(folder: Path, *arguments: str, code: int = 0) -> str:
    """Run a command as a user does; give what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "mlstack", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@dataclass
class Story:
    """A served project, and the rows it is asked."""

    root: Path
    http: httpx.Client
    rows: list[Row]

    def ask(self, body: Any) -> dict[str, Any]:
        """Predict, and expect an answer."""
        answer = self.http.post("/predict", json=body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def golden(self) -> list[dict[str, Any]]:
        """The package's examples."""
        kept = self.root / "models" / self.root.name / "1" / "mlstack" / "golden.json"
        return list(json.loads(kept.read_text())["examples"])


def served(root: Path, rows: list[Row]) -> Iterator[Story]:
    """Start a server, and end it as `systemctl stop` does."""
    command = [sys.executable, "-m", "mlstack", "serve", "--port", "0", "--json"]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if url := json.loads(line).get("url"):
                break
        with httpx.Client(base_url=url, timeout=30) as http:
            yield Story(root, http, rows)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        process.stdout.close()


def rows_of(path: Path, label: str) -> list[Row]:
    """Read a table's rows without their label, as a client would have them."""
    with path.open(newline="") as stream:
        found = [{k: v for k, v in row.items() if k != label} for row in csv.DictReader(stream)]
    return [{k: float(v) if v[:1].isdigit() else v or None for k, v in r.items()} for r in found]


@pytest.fixture(scope="module")
def cancer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """The shipped table, up to a running server."""
    folder = tmp_path_factory.mktemp("cancer")
    assert "569 real rows" in mlstack(folder, "init", "tumours", "--template", "tabular")
    root = folder / "tumours"
    mlstack(root, "version", "check")
    mlstack(root, "version", "snapshot", "-m", "as it came")
    mlstack(root, "train", "--check")
    mlstack(root, "train", "--epochs", "8")
    mlstack(root, "export")
    mlstack(root, "export", "verify")
    yield from served(root, rows_of(root / "data" / "cancer" / "table.csv", "label"))


def test_every_answer_is_what_the_description_of_a_table_says(
    cancer: Story, tmp_path: Path
) -> None:
    described.ask(str(cancer.http.base_url).rstrip("/"), tmp_path, examples=8)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """A table of one's own: text, true and false, missing values and an id, in Parquet's place."""
    folder = tmp_path_factory.mktemp("mixed")
    mlstack(folder, "init", "members", "--template", "tabular")
    root = folder / "members"
    dice = random.Random(1)
    lines = ["id,age,city,member,grade"]
    for number in range(600):
        age, city = dice.randint(18, 80), dice.choice(["Bern", "Genf", "Zug"])
        member = dice.random() < 0.5
        grade = "gold" if city == "Bern" and member else "silver" if age > 50 else "none"
        shown = "" if number % 30 == 0 else age
        lines.append(f"u{number},{shown},{'' if number % 40 == 0 else city},{member},{grade}")
    (root / "data" / "cancer" / "table.csv").write_text("\n".join(lines) + "\n")
    text = (root / "mlstack.yaml").read_text()
    for old, new in (
        ("label: label ", "label: grade "),
        ("ignore: []", "ignore: [id]"),
        ("features: 30", "features: 8"),
        ("{column: class, metric: acc, min: 0.8}", "{column: city, metric: acc, min: 0.5}"),
    ):
        assert old in text
        text = text.replace(old, new)
    (root / "mlstack.yaml").write_text(text)
    mlstack(root, "version", "check", code=3)
    mlstack(root, "version", "check", "--set", "data.checks.max_missing=0.1")
    mlstack(root, "version", "snapshot", "-m", "members")
    mlstack(root, "train", "--epochs", "12", "--allow-dirty")
    mlstack(root, "export")
    found = rows_of(root / "data" / "cancer" / "table.csv", "grade")
    yield from served(root, [{**row, "member": row["member"] == "True"} for row in found])


def test_a_row_and_rows_are_answered_as_when_they_were_packed(cancer: Story) -> None:
    folder = cancer.root / "models" / "tumours" / "1" / "mlstack" / "golden"
    golden = cancer.golden()
    rows = [json.loads((folder / one["file"]).read_text()) for one in golden]

    said = cancer.ask({"rows": rows})["predictions"]
    alone = cancer.ask(rows[0])

    assert [one["prediction"] for one in said] == [one["prediction"] for one in golden]
    assert alone["prediction"] == golden[0]["prediction"]
    assert list(alone["probabilities"].values()) == pytest.approx(
        golden[0]["probabilities"], abs=1e-5
    )


def test_a_wrong_row_is_refused_by_its_row_and_column(cancer: Story) -> None:
    good = cancer.rows[0]
    short = {name: value for name, value in good.items() if name != "mean area"}
    for body, field in (
        ({"rows": [good, {**good, "mean area": "large"}]}, "rows[1].mean area"),
        ({"rows": [good, good, short]}, "rows[2].mean area"),
        ({**good, "mean area": True}, "mean area"),
        (short, "mean area"),
        ({"rows": []}, "rows"),
        ({"rows": [3]}, "rows[0]"),
        ([good], "body"),
    ):
        answer = cancer.http.post("/predict", json=body)

        assert (answer.status_code, answer.json()["field"]) == (400, field), answer.text


def test_tensors_are_answered_as_rows_are(cancer: Story) -> None:
    row = cancer.rows[5]
    tensor = {"name": "input", "datatype": "FP32", "shape": [1, 30], "data": list(row.values())}

    rows = cancer.ask(row)["probabilities"]
    simple = cancer.ask({"inputs": [list(row.values())]})["predictions"][0]["probabilities"]
    v2 = cancer.http.post("/v2/models/tumours/infer", json={"inputs": [tensor]}).json()["outputs"]

    assert simple == pytest.approx(rows, abs=1e-5)
    found = next(output["data"] for output in v2 if output["name"] == "probabilities")
    assert found == pytest.approx(list(rows.values()), abs=1e-5)


def test_openapi_names_every_column(cancer: Story) -> None:
    schemas = cancer.http.get("/openapi.json").json()["components"]["schemas"]

    assert list(schemas["Row"]["properties"]) == list(cancer.rows[0])
    assert schemas["Row"]["required"] == list(cancer.rows[0])


def test_the_page_asks_for_the_columns_and_shows_the_answer(mixed: Story) -> None:
    assert CHROMIUM, "type `make system`"
    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(str(mixed.http.base_url))
        page.fill("[data-column=age]", "30")
        page.select_option("[data-column=city]", "Bern")
        page.select_option("[data-column=member]", "true")
        page.click("#form button")
        page.wait_for_selector("#found:not([hidden])")

        said = page.inner_text("#prediction")
        is_hidden = page.is_hidden("#drop")
        browser.close()

    assert said == mixed.ask({"age": 30, "city": "Bern", "member": True})["prediction"] == "gold"
    assert is_hidden
    assert complaints == []


def test_the_monitor_is_silent_on_the_same_rows_and_names_shifted_columns(cancer: Story) -> None:
    dice = random.Random(0)
    dice.shuffle(cancer.rows)
    for start in range(0, 500, 50):
        cancer.ask({"rows": cancer.rows[start : start + 50]})
    eventually_logged()
    assert "look like the reference" in mlstack(cancer.root, "monitor", "check")

    shifted = [{**row, "mean texture": row["mean texture"] * 1.6} for row in cancer.rows[:500]]
    for start in range(0, 500, 50):
        cancer.ask({"rows": shifted[start : start + 50]})
    eventually_logged()
    said = mlstack(cancer.root, "monitor", "check", code=5)
    mlstack(cancer.root, "monitor", "report")

    assert "input `mean texture` changed" in said
    (page,) = (cancer.root / ".mlstack" / "reports").glob("*.html")
    assert "mean texture" in page.read_text()


def test_texts_are_compared_as_texts_and_missing_values_as_missing(mixed: Story) -> None:
    mixed.ask({"rows": mixed.rows})
    eventually_logged()
    mlstack(mixed.root, "monitor", "check")

    moved = [{**row, "city": "Zug" if n % 3 else "Basel"} for n, row in enumerate(mixed.rows)]
    mixed.ask({"rows": [{**row, "age": None} if n % 2 else row for n, row in enumerate(moved)]})
    eventually_logged()
    report = json.loads(mlstack(mixed.root, "monitor", "check", "--json", code=5))
    mlstack(mixed.root, "monitor", "report")

    alarms = {one["subject"]: one for one in report["findings"] if one["alert"]}
    assert {"city", "age missing"} <= alarms.keys()
    assert alarms["city"]["statistic"] == "TV"
    assert alarms["city"]["detail"] == "`(other)` 0.0% -> 33.4%, not in the reference"
    (page,) = (mixed.root / ".mlstack" / "reports").glob("*.html")
    assert "(other)" in page.read_text()


def eventually_logged() -> None:
    """Wait until what was asked stands in the log (`serve.log.flush_ms`)."""
    time.sleep(1)


def test_a_version_says_which_rows_were_relabelled(mixed: Story) -> None:
    path = mixed.root / "data" / "cancer" / "table.csv"
    before = path.read_text()
    path.write_text(before.replace(",silver\n", ",gold\n", 1))

    said = json.loads(mlstack(mixed.root, "version", "diff", "HEAD", "--json"))
    path.write_text(before)

    (one,) = said["relabelled"]
    assert (one["before"], one["after"]) == ("silver", "gold")
    assert said["changed"] == ["table.csv"]
