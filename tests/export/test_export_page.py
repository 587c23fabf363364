"""The page of an export in a real browser, on a desk and on a phone."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from browser import opened, started
from playwright.sync_api import Browser, Page
from test_export_gates import GOOD

from mlstack.export import report
from mlstack.export.edge import Edges
from mlstack.export.handover import Raced
from mlstack.export.kinds import Plan
from mlstack.export.trial import Field, Tried
from mlstack.records.package import GateResult
from mlstack.records.variants import Times, Variant, Variants

TIMES = [Times(batch=n, p50_ms=n / 8, p95_ms=n / 7, p99_ms=n / 6) for n in (1, 8, 32)]
LONG = "the run logged test/acc 0.9886, its checkpoint gives 0.9612 today; " * 2
GATES = [
    GateResult(name="parity max", passed=True, measured=3.433e-07, limit=0.0001, detail=LONG),
    GateResult(name="agreement min", passed=True, measured=1.0, limit=1.0),
    GateResult(name="no class or slice worse", passed=False, measured=0.002, limit=0.01),
    GateResult(name="no worse than live", passed=True, detail="not asked: no package is live yet"),
]
WHY = "not made: convolutions do 100% of the work, and dynamic INT8 slows them down"
# How far a row's last cell reaches and how tall the row is, of every row that shows one.
CELLS = """cells => cells.filter(one => one.innerText).map(one => {
  const box = one.getBoundingClientRect();
  return [one.innerText, box.left, box.right, one.parentElement.offsetHeight]; })"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from started()


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """The page of an export that packed FP32, and refused INT8."""
    tried = [Tried(name, figures=GOOD, gates=GATES, times=TIMES) for name in ("fp32", "int8")]
    rows = [
        Variant(precision="fp32", size_bytes=300_000, times=TIMES, chosen=True, why="the best"),
        Variant(
            precision="int8", size_bytes=90_000, times=TIMES, why="red: parity", red=["parity"]
        ),
        Variant(precision="int8-dynamic", why=WHY),
    ]
    rows = [msgspec.structs.replace(r, agreement=0.998, max_probability_diff=0.02) for r in rows]
    weighed = Variants(target="cpu", variants=rows, training_code=TIMES)
    field = Field(tried, Plan(), Raced(laps=[], runtime="", threads=1, processor=""))
    seen = report.Seen(field, weighed, Edges())
    place = tmp_path / "export.html"
    place.write_text(report.render(SimpleNamespace(id="r"), "pets", seen))
    page, complaints = opened(browser)
    page.goto(f"file://{place}")
    yield page
    page.close()
    assert complaints == []


def test_a_table_of_gates_says_what_its_numbers_are(page: Page) -> None:
    heads = page.locator("table.gates thead tr").all_inner_texts()

    assert [head.split() for head in heads] == [["gate", "measured", "limit"]] * 2


@pytest.mark.parametrize("width", [390, 1280])
def test_reasons_are_read_without_scrolling_and_no_row_is_tall(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")

    cells = page.locator(".wide tbody td:last-child").evaluate_all(CELLS)

    assert {text for text, *_ in cells} >= {"the best", WHY, LONG.strip()}
    for text, left, right, height in cells:
        assert 0 <= left < right <= width, text
        assert height < 150, text  # they were 190
    wide = page.locator(".wide").evaluate_all("all => all.map(o => o.scrollWidth - o.clientWidth)")
    assert max(wide) <= 0


def test_a_reason_without_figures_has_the_row_to_itself(page: Page) -> None:
    page.set_viewport_size({"width": 1280, "height": 800})

    cells = page.locator(".wide tbody td:last-child").evaluate_all(CELLS)

    (height,) = {height for text, _, _, height in cells if text == WHY}
    assert height < 45  # one line; it was four in a narrow last column
