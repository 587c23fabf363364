"""The page of a study in a real browser: it loads nothing, and says what each trial was."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import opened, started
from playwright.sync_api import Browser

from mlstack.tune import html, scatter
from mlstack.tune.results import TrialRow, Tuned
from mlstack.tune.scatter import Dot

HOSTILE = "</title><script>window.hit=1</script>"


def trial(number: int, value: float | None, state: str = "finished", **more: str) -> TrialRow:
    rate = 10.0 ** -(number % 4 + 1)
    kind = HOSTILE if number % 2 else "plain"
    settings = {"model.args.lr": rate, "model.args.width": 8 * number, "model.args.kind": kind}
    return TrialRow(number=number, state=state, parameters=settings, value=value, epochs=2, **more)


def study(trials: list[TrialRow], best: TrialRow | None) -> Tuned:
    return Tuned(
        study=f"s{HOSTILE}",
        state="finished",
        wanted=9,
        monitor="val/acc",
        mode="max",
        trials=trials,
        best=best,
        importance={"model.args.width": 0.75, "model.args.lr": 0.25},
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from started()


def test_the_page_shows_every_trial_by_what_it_tried(browser: Browser, tmp_path: Path) -> None:
    rows = [trial(n, 0.5 + n / 20) for n in range(7)]
    rows += [trial(7, 0.4, "pruned"), trial(8, None, "failed", problem=f"ValueError {HOSTILE}")]
    (tmp_path / "page.html").write_text(html.page(study(rows, rows[6])))
    page, complaints = opened(browser)
    page.on(
        "request", lambda asked: asked.url.endswith("/page.html") or complaints.append(asked.url)
    )

    page.goto(f"file://{tmp_path}/page.html")

    assert page.locator("tbody tr").count() == 9
    assert page.locator("tr.best td").first.inner_text() == "6"
    charts = page.locator("figure")
    assert charts.count() == 4  # the way, and a setting each, what matters most first
    assert "width, 75% of what matters" in charts.nth(1).inner_text()
    assert [charts.nth(n).locator("circle").count() for n in range(4)] == [8, 8, 8, 8]
    assert charts.nth(0).locator("circle.pruned").count() == 1
    said = charts.nth(0).locator("circle.best title").text_content()
    assert said is not None and said.startswith("trial 6, finished: 0.8000; lr 0.001, width 48")
    assert page.evaluate("window.hit") is None
    assert complaints == []
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_a_study_without_a_result_has_a_page_that_says_why() -> None:
    drawn = html.page(study([trial(0, None, "failed", problem="the loss is not a number")], None))

    assert "the loss is not a number" in drawn and "<svg" not in drawn


def test_equal_values_and_a_single_trial_can_be_drawn() -> None:
    for rows in ([trial(1, 0.5)], [trial(n, 0.5) for n in range(7)], [trial(0, float("inf"))]):
        assert html.page(study(rows, rows[0])).endswith("</html>\n")


def test_few_values_of_a_range_stand_on_an_axis_of_numbers() -> None:
    values = (0.0014826581049123125, 0.003, 0.00911523613006, 0.018968)
    drawn = scatter.draw("lr", [Dot(value, 0.9, "", "") for value in values])
    chosen = scatter.draw("drop", [Dot(value, 0.9, "", "") for value in (0.1, 0.5, 0.1)])

    assert "0.00148265" not in drawn and ">0.01<" in drawn
    assert ">0.1<" in chosen and ">0.5<" in chosen and ">0.3<" not in chosen
