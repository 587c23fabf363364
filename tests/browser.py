"""A real browser for the tests of pages: Debian's Chromium, or Playwright's own."""

import shutil
from collections.abc import Iterator

from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE_MS = 20_000  # the machine may be busy


def started() -> Iterator[Browser]:
    """Run a browser while a fixture lasts."""
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(browser: Browser, height: int = 800) -> tuple[Page, list[str]]:
    """Open a page; give it and the list of its complaints, which grows."""
    page = browser.new_page(viewport={"width": 1280, "height": height})
    page.set_default_timeout(PATIENCE_MS)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: said.type == "error" and complaints.append(said.text))
    return page, complaints
