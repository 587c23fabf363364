"""The page at `/` in a real browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import opened, started
from playwright.sync_api import Browser, Page
from serving import NAME, Server, eventually

from mlstack.records import requests


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from started()


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    page, complaints = opened(browser)
    page.goto(server.url)
    yield page
    page.close()
    assert [c for c in complaints if "400" not in c] == []


def golden(home: Path) -> Path:
    return home / "models" / NAME / "2" / "mlstack" / "golden" / "1.png"


def test_a_chosen_image_is_predicted_and_its_label_kept(
    page: Page, server: Server, home: Path
) -> None:
    page.set_input_files("#file", golden(home))
    page.wait_for_selector("#found:not([hidden])")

    prediction = page.inner_text("#prediction")
    assert prediction in page.inner_text("#bars .best")
    assert page.locator("#bars li").count() == 10
    assert "ms" in page.inner_text("#latency")
    page.click(f"#labels button:text-is('{prediction}')")
    page.wait_for_selector("#question:has-text('Noted')")

    assert "the model was right" in page.inner_text("#question")
    kept = requests.feedback_parts(home / ".mlstack" / "feedback")
    said = [row for part in kept for row in requests.read_part(part).to_pylist()]
    assert {"prediction_id": page.inner_text("#id"), "label": prediction} in [
        {key: row[key] for key in ("prediction_id", "label")} for row in said
    ]


def test_the_page_says_what_is_wrong_with_a_file(page: Page, tmp_path: Path) -> None:
    (tmp_path / "no.png").write_bytes(b"hello")

    page.set_input_files("#file", tmp_path / "no.png")
    page.wait_for_selector("#problem:not([hidden])")

    assert "not an image" in page.inner_text("#problem")


def test_the_page_tells_the_version_and_asks_no_other_host(
    page: Page, browser: Browser, server: Server
) -> None:
    asked: list[str] = []
    other = browser.new_page()
    other.on("request", lambda request: asked.append(request.url))

    other.goto(server.url)
    eventually(lambda: "version 2" in other.inner_text("#state"))

    assert all(url.startswith((server.url, "data:")) for url in asked)
    other.close()
