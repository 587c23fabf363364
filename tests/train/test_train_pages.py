"""The pages of runs in a real browser: they load nothing, and tell the values under the pointer."""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import opened, started
from msgspec import structs
from playwright.sync_api import Browser, Page, expect
from train.test_train_runs import make_run

from mlstack.records import base
from mlstack.records.layout import Layout
from mlstack.records.run import (
    SPEC,
    EpochEnded,
    Finished,
    RunSpec,
    Stepped,
    append_event,
    run_ids,
)
from mlstack.records.system import GpuUse, Speed, Used, append_system

MANY = 12


def mlstack(project: Path, *words: str) -> None:
    subprocess.run([sys.executable, "-m", "mlstack", "train", *words], cwd=project, check=True)


def make_whole_run(project: Path, **overrides: object) -> str:
    """Lay out a run that also has steps within its epochs, and looks at the machine."""
    run = make_run(project, finished=False, **overrides).id
    folder = project / ".mlstack" / "runs" / run
    for step in range(1, 16):
        at = time.time()
        stepped = Stepped(
            run=run, at=at, epoch=1, step=step, batch=1, batches=5, metrics={"loss": 3 / step}
        )
        append_event(folder, stepped)
        gpu = GpuUse(index=0, busy=0.9, memory_bytes=5 << 30)
        looked = Used(
            run=run, at=at + step, cpu_cores=1.5, machine_cpu=0.8, memory_bytes=700 << 20,
            free_bytes=8 << 30, gpus=[gpu],
        )  # fmt: skip
        append_system(folder, looked)
    for epoch in (1, 2, 3):
        speed = Speed(
            run=run, at=at, epoch=epoch, step=epoch * 5, examples_per_s=1234.0, loader_wait=0.07
        )
        append_system(folder, speed)
    append_event(folder, Finished(run=run, at=at, step=15, epoch=3, metrics={"test/acc": 0.625}))
    return run


def lay_out_odd_runs(project: Path) -> None:
    """Draw two runs that ended in their first epoch, one, and one with a very long name."""
    runs = [make_run(project, finished=False, epochs=0).id for _ in range(2)]
    mlstack(project, "compare", *runs, "--html", "early.html")
    folder = project / ".mlstack" / "runs" / runs[0]
    metrics = {"val/" + "x" * 300: 0.5}
    ended = EpochEnded(run=runs[0], at=1.0, epoch=1, epochs=2, step=5, metrics=metrics)
    append_event(folder, ended)
    append_event(folder, Finished(run=runs[0], at=1.0, step=5, epoch=1, metrics=metrics))
    mlstack(project, "show", runs[0], "--html", "long.html")
    for run in runs:
        shutil.rmtree(folder.with_name(run))


def copy_of(project: Path, run: str, number: int) -> str:
    """Lay out the same run once more, with another seed: planning each takes a second."""
    here = project / ".mlstack" / "runs"
    shutil.copytree(here / run, here / f"{run[:-4]}{number:04d}")
    spec = base.read(here / run / SPEC, RunSpec)
    config = spec.config | {"project": spec.config["project"] | {"seed": number}}
    copy = structs.replace(spec, id=f"{run[:-4]}{number:04d}", config=config)
    base.write(here / copy.id / SPEC, copy)
    return copy.id


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, project_maker) -> Path:
    """A folder with the page of one run, of two, and of many."""
    project = project_maker(tmp_path_factory.mktemp("pages") / "demo", images=120)
    runs = [make_whole_run(project), make_whole_run(project, **{"model.args.lr": 0.01})]
    lay_out_odd_runs(project)
    while len(runs) < MANY:
        runs.append(copy_of(project, runs[0], len(runs)))
    mlstack(project, "show", runs[0], "--html", "one.html")
    mlstack(project, "compare", *runs[:2], "--html", "two.html")
    mlstack(project, "compare", *runs, "--html", "many.html")
    return project


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from started()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that may complain about nothing, and ask for nothing but itself."""
    page, complaints = opened(browser, height=900)
    page.on("request", lambda asked: asked.url.endswith(".html") or complaints.append(asked.url))
    yield page
    page.close()
    assert complaints == []


def point_at(page: Page, title: str, share: float) -> str:
    """Move the pointer over a chart; give what the tip says, a line a value."""
    figure = page.locator("figure", has=page.locator("figcaption", has_text=title)).first
    chart = figure.locator("> svg")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    page.mouse.move(box["x"] + box["width"] * share, box["y"] + box["height"] / 2)
    tip = figure.locator(".tip")
    expect(tip).to_be_visible()
    assert box["y"] <= tip.bounding_box()["y"] < box["y"] + box["height"] / 2  # beside the pointer
    return tip.inner_text()


def test_the_values_under_the_pointer_are_those_of_the_run(pages: Path, page: Page) -> None:
    page.goto(f"file://{pages}/one.html")

    at_the_end = point_at(page, "loss", 0.97)
    in_the_middle = point_at(page, "loss", 0.45)
    waiting = point_at(page, "waiting for the loader", 0.5)

    assert "step 15" in at_the_end
    assert "train/loss\n0.66667" in at_the_end
    assert "val/loss\n0.83333" in at_the_end
    assert "loss within epochs\n0.2" in at_the_end
    assert in_the_middle.split("\n")[:3] == ["step 6", "loss within epochs", "0.5"]
    assert "train/loss" not in in_the_middle  # no epoch ended near there
    assert "7.0 %" in waiting


def test_the_tip_goes_when_the_pointer_does(pages: Path, page: Page) -> None:
    page.goto(f"file://{pages}/one.html")
    point_at(page, "acc", 0.5)

    page.mouse.move(2, 2)

    expect(page.locator(".tip:visible")).to_have_count(0)


def test_one_run_shows_what_it_made_of_the_machine(pages: Path, page: Page) -> None:
    page.goto(f"file://{pages}/one.html")

    titles = page.locator("figcaption").all_inner_texts()
    gpu = point_at(page, "GPU memory", 0.5)

    assert {"CPU cores of the ranks", "memory of the ranks", "GPUs busy"} <= set(titles)
    assert "5.0 GiB" in gpu
    assert "1,234" in page.locator(".tiles").inner_text()


def test_a_run_is_hidden_on_every_chart_at_once(pages: Path, page: Page) -> None:
    page.goto(f"file://{pages}/two.html")
    row = page.locator("tr[data-run]").first
    run = row.get_attribute("data-run")
    lines = page.locator(f'figure > svg [data-run="{run}"]')
    before = point_at(page, "acc", 0.9)

    row.locator("input").uncheck()

    assert lines.count() > 3
    expect(page.locator(f'figure > svg [data-run="{run}"].gone')).to_have_count(lines.count())
    assert run in before
    assert run not in point_at(page, "acc", 0.9)
    row.locator("input").check()
    expect(page.locator("figure > svg .gone")).to_have_count(0)


def test_many_runs_have_a_colour_and_a_row_each(pages: Path, page: Page) -> None:
    page.goto(f"file://{pages}/many.html")

    colours = page.locator("tr[data-run] .swatch").evaluate_all(
        "found => found.map((one) => getComputedStyle(one).backgroundColor)"
    )
    settings = page.locator("section", has_text="Settings that differ").locator("tbody tr, tr")

    assert len(set(colours)) == MANY
    assert settings.count() == MANY + 1  # a row a run below the names of the settings


def test_many_runs_are_compared_on_80_columns_without_a_broken_word(pages: Path) -> None:
    runs = run_ids(Layout(pages).runs)

    words = [sys.executable, "-m", "mlstack", "train", "compare", *runs]
    said = subprocess.run(words, cwd=pages, stdout=subprocess.PIPE, text=True, check=True).stdout

    lines = said.splitlines()
    (rate,) = [line for line in lines if line.startswith("model.args.lr")]
    specs = [base.read(Layout(pages).run(run) / SPEC, RunSpec) for run in runs]
    (fast,) = [spec.id for spec in specs if spec.config["model"]["args"]["lr"] == 0.01]
    assert rate.split() == ["model.args.lr", "0.01", fast]
    assert any(line.split() == ["0.003", "the", "other", str(MANY - 1)] for line in lines)
    assert all(len(line) <= 80 for line in lines)


@pytest.mark.parametrize("name", ["one", "two", "many"])
@pytest.mark.parametrize("width", [1280, 390])
def test_no_page_is_wider_than_its_window(pages: Path, page: Page, name: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"file://{pages}/{name}.html")

    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_scripts_the_curves_and_tables_are_there(pages: Path, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"file://{pages}/two.html")

    assert page.locator("polyline").count() > 6
    assert page.locator("tr[data-run] input:visible").count() == 0
    context.close()


def test_no_number_is_broken_in_two_on_a_narrow_screen(pages: Path, page: Page) -> None:
    page.set_viewport_size({"width": 160, "height": 800})
    page.goto(f"file://{pages}/two.html")

    rows = page.locator("section", has=page.locator("h2", has_text="Metrics")).locator("tbody tr")
    heights = [rows.nth(row).bounding_box()["height"] for row in range(rows.count())]

    assert heights and max(heights) < 40  # one line


def test_runs_that_ended_in_their_first_epoch_show_no_empty_curves(pages: Path, page: Page) -> None:
    page.goto(f"file://{pages}/early.html")

    assert "Curves" not in page.locator("h2").all_inner_texts()
    assert page.locator("tr[data-run] td").all_inner_texts().count("none") == 2


@pytest.mark.parametrize("width", [400, 1280])
def test_a_very_long_name_makes_no_page_wider(pages: Path, page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"file://{pages}/long.html")

    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_single_epoch_is_drawn_over_whole_steps_from_the_first() -> None:
    from mlstack.train.chart import Chart, Curve, draw

    drawn = draw(Chart("acc", [Curve("val/acc", [(8.0, 0.5)], "red", "solid")], "step"))

    marks = re.findall(r'text-anchor="middle">([^<]+)<', drawn)
    assert marks == ["0", "2", "4", "6", "8"]


def test_small_shares_are_told_apart_on_an_axis() -> None:
    from mlstack.train.chart import said

    assert [said(share, "%") for share in (0.0, 0.005, 0.01, 0.5, 1.0)] == [
        "0%",
        "0.5%",
        "1%",
        "50%",
        "100%",
    ]
