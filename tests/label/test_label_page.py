"""The page in a real browser, driven like a person drives it: by keys."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import PATIENCE_MS, opened, started
from label_server import IMAGES, LABELED, Server, labels_of, run
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from mlstack.label.store import read_events

Serve = Callable[..., Server]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from started()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that may complain about nothing."""
    page, complaints = opened(browser)
    yield page
    page.close()
    assert [c for c in complaints if "ERR_CONNECTION" not in c] == []


def visit(page: Page, server: Server) -> None:
    page.goto(server.url)
    expect(page.locator("#frame img")).to_be_visible()


def shown(page: Page) -> str:
    return page.locator("#path").inner_text()


def press(page: Page, key: str) -> str:
    """Press a key; give the path of the image it answered."""
    path = shown(page)
    page.keyboard.press(key)
    expect(page.locator("#path")).not_to_have_text(path)
    return path


def saved(page: Page) -> None:
    expect(page.locator("#saved")).to_have_text("saved")


def test_keys_label_skip_undo_and_the_export_has_them(half: Path, serve: Serve, page: Page) -> None:
    server = serve()
    visit(page, server)

    given = {press(page, key): key for key in "1234567890"}
    skipped = press(page, "Space")
    mistaken = press(page, "7")
    page.keyboard.press("u")
    expect(page.locator("#path")).to_have_text(mistaken)
    expect(page.locator("#done")).to_have_text(str(LABELED + 10))
    given[press(page, "8")] = "8"
    saved(page)

    assert mistaken in given
    assert skipped not in given
    expect(page.locator("#done")).to_have_text(str(LABELED + 11))
    expect(page.locator("#total")).to_have_text(str(IMAGES))
    counts = server.get("/api/project").json()["counts"]
    assert (counts["labeled"], counts["skipped"]) == (LABELED + 11, 1)
    eights = page.get_by_role("button", name="8", exact=False).and_(
        page.locator("[data-label='8']")
    )
    assert eights.locator(".count").inner_text() == str(counts["classes"]["8"])
    exported = run(half, "label", "export", "--json")
    assert exported.returncode == 0
    assert {path: labels_of(half)[path] for path in given} == given


def test_small_images_keep_square_pixels(serve: Serve, page: Page) -> None:
    visit(page, serve())

    image = page.locator("#frame img")
    box = image.bounding_box()

    assert box is not None
    assert box["width"] == box["height"]
    assert box["width"] % 8 == 0
    assert box["width"] >= 320
    assert image.evaluate("each => getComputedStyle(each).imageRendering") == "pixelated"


def test_going_back_shows_and_changes_an_earlier_answer(
    half: Path, serve: Serve, page: Page
) -> None:
    visit(page, serve())
    first = press(page, "1")
    press(page, "2")
    third = shown(page)

    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#path")).to_have_text(first)
    expect(page.locator("#given")).to_have_text("labeled 1")
    page.keyboard.press("5")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#path")).to_have_text(third)
    saved(page)
    page.keyboard.press("Control+z")  # of the change: the item is shown with its first answer
    expect(page.locator("#path")).to_have_text(first)
    saved(page)
    run(half, "label", "export")

    assert labels_of(half)[first] == "1"


def test_undo_reaches_answers_from_before_the_page_was_opened(serve: Serve, page: Page) -> None:
    server = serve()
    visit(page, server)
    first = press(page, "3")
    saved(page)

    visit(page, server)
    page.keyboard.press("Backspace")

    expect(page.locator("#path")).to_have_text(first)
    expect(page.locator("#done")).to_have_text(str(LABELED))


def test_a_damaged_image_is_said_and_skipped(half: Path, serve: Serve, page: Page) -> None:
    images = half / "data" / "digits" / "images"
    for file in sorted(images.iterdir())[LABELED:]:
        file.write_bytes(b"not an image")
    page.goto(serve().url)

    expect(page.locator("#message")).to_contain_text("This image cannot be shown")
    first = shown(page)
    page.keyboard.press("Space")

    expect(page.locator("#path")).not_to_have_text(first)
    saved(page)


def test_labels_survive_a_server_that_is_gone_for_a_while(
    half: Path, serve: Serve, page: Page
) -> None:
    server = serve()
    port = server.url.split(":")[2].strip("/")
    visit(page, server)
    server.stop()

    given = {press(page, key): key for key in "123"}
    expect(page.locator("#saved")).to_have_text("3 unsaved")
    expect(page.locator("#alarm")).to_contain_text("The server does not answer")
    serve("--port", port)
    saved(page)
    expect(page.locator("#alarm")).to_be_hidden()
    run(half, "label", "export")

    assert {path: labels_of(half)[path] for path in given} == given


@pytest.fixture
def tabs(browser: Browser) -> Iterator[Callable[[], Page]]:
    """Open tabs of one browser, which share what it stored."""
    window = browser.new_context(viewport={"width": 1280, "height": 800})
    window.set_default_timeout(PATIENCE_MS)
    yield window.new_page
    window.close()


def test_undo_in_one_tab_takes_back_what_was_answered_there(
    half: Path, serve: Serve, tabs: Callable[[], Page]
) -> None:
    server, first, second = serve(), tabs(), tabs()
    visit(first, server)
    given = press(first, "1")
    saved(first)
    visit(second, server)
    kept = press(second, "2")
    saved(second)

    first.keyboard.press("u")
    expect(first.locator("#path")).to_have_text(given)
    saved(first)
    run(half, "label", "export")

    assert given not in labels_of(half)
    assert labels_of(half)[kept] == "2"


def test_what_two_tabs_could_not_send_is_sent_by_the_next(
    half: Path, serve: Serve, tabs: Callable[[], Page]
) -> None:
    server, first, second = serve(), tabs(), tabs()
    port = server.url.split(":")[2].strip("/")
    for tab in (first, second):
        visit(tab, server)
    server.stop()

    given = {press(first, "1"): "1", press(first, "2"): "2"}
    expect(first.locator("#saved")).to_have_text("2 unsaved")
    second.keyboard.press("3")  # of the same image as the first tab's first
    again = {press(second, "4"): "4"} if shown(second) in given else {}
    expect(second.locator("#saved")).to_contain_text("unsaved")
    for tab in (first, second):
        tab.close(run_before_unload=False)
    third = tabs()
    visit(third, serve("--port", port))
    saved(third)
    run(half, "label", "export")

    labels = labels_of(half)
    assert given.keys() | again.keys() <= labels.keys()
    assert third.evaluate("localStorage.length") == 0


def test_the_end_offers_what_was_skipped(half: Path, serve: Serve, page: Page) -> None:
    for file in sorted((half / "data" / "digits" / "images").iterdir())[LABELED + 3 :]:
        file.unlink()
    visit(page, serve())

    press(page, "1")
    skipped = press(page, "Space")
    page.keyboard.press("2")
    expect(page.locator("#message h2")).to_have_text("All done")
    page.get_by_role("button", name="Go through the 1 skipped").click()
    expect(page.locator("#path")).to_have_text(skipped)
    page.keyboard.press("3")

    expect(page.locator("#message h2")).to_have_text("All done")
    expect(page.locator("#done")).to_have_text(str(LABELED + 3))


def test_a_name_chosen_in_the_page_is_who_labels(half: Path, serve: Serve, page: Page) -> None:
    visit(page, serve("--annotator", "ann"))
    page.on("dialog", lambda dialog: dialog.accept("bob"))

    page.locator("#who").click()
    expect(page.locator("#who")).to_have_text("bob")
    expect(page.locator("#frame img")).to_be_visible()
    press(page, "1")
    saved(page)

    assert [e.annotator for e in read_events(half / ".mlstack" / "labels.db")] == ["bob"]


def test_an_image_of_any_kind_and_name_is_shown(half: Path, serve: Serve, page: Page) -> None:
    images = half / "data" / "digits" / "images"
    last = sorted(images.iterdir())[LABELED]
    for file in sorted(images.iterdir())[LABELED + 1 :]:
        file.unlink()
    with Image.open(last) as picture:
        deep = Image.fromarray(np.asarray(picture, np.uint16) * 257)
        deep.save(images / "deep.tif")
        picture.save(images / "100%25 #1?\n'\"<b>.png")
        picture.save(images / f"{'long ' * 40}.png")
    visit(page, serve())
    given = set()

    for _ in range(4):
        expect(page.locator("#frame img")).to_be_visible()
        stage, image = (page.locator(one).bounding_box() for one in ("#stage", "#frame img"))
        assert stage is not None
        assert image is not None
        assert stage["x"] <= image["x"]
        assert image["x"] + image["width"] <= stage["x"] + stage["width"]
        given.add(path := page.locator("#path").get_attribute("title") or "")
        page.keyboard.press("1")
        expect(page.locator("#path")).not_to_have_attribute("title", path)

    expect(page.locator("#message h2")).to_have_text("All done")
    assert len(given) == 4


def test_space_presses_the_button_that_has_the_focus(serve: Serve, page: Page) -> None:
    visit(page, serve())
    first = shown(page)

    page.locator("[data-label='4']").focus()
    page.keyboard.press("Space")
    expect(page.locator("#path")).not_to_have_text(first)
    expect(page.locator("#spoken")).to_have_text("labeled 4")
    second = shown(page)
    page.locator("[data-label='5']").click()
    expect(page.locator("#path")).not_to_have_text(second)
    press(page, "Space")  # who clicks and types means the image, not the button

    expect(page.locator("#spoken")).to_have_text("skipped")
    saved(page)


def test_a_class_among_many_is_found_by_a_part_of_its_name(
    half: Path, serve: Serve, page: Page
) -> None:
    names = [f"kind {number}" for number in range(60)] + ["Écureuil", "red fox", "fox", "<i>fox"]
    server = serve("--set", f"data.classes={json.dumps(names, ensure_ascii=False)}")
    visit(page, server)
    given = {}

    for words in ("ecur", "fox", "kind 59", "<i"):
        page.keyboard.press("/")
        page.keyboard.type(words)
        expect(page.locator("#classes .best")).to_have_count(1)
        given[press(page, "Enter")] = words
    page.keyboard.type("nothing like it")
    expect(page.locator("#classes button:visible")).to_have_count(0)
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    given[press(page, "1")] = "1"
    saved(page)
    page.keyboard.press("/")
    page.keyboard.press("Control+z")  # nothing is typed: it is the answer that is meant
    expect(page.locator("#path")).to_have_text(max(given, key=list(given).index))
    saved(page)

    events = read_events(half / ".mlstack" / "labels.db")
    assert [event.label for event in events] == [
        "Écureuil",
        "fox",
        "kind 59",
        "<i>fox",
        "kind 0",
        None,
    ]


@pytest.mark.parametrize(("width", "height"), [(640, 400), (640, 300), (320, 480), (500, 500)])
def test_a_low_or_narrow_window_keeps_room_for_the_image(
    serve: Serve, page: Page, width: int, height: int
) -> None:
    """A window of 1280 x 800 at twice its size is one of 640 x 400."""
    names = [f"a class with a long name, number {number}" for number in range(60)]
    server = serve("--set", f"data.classes={json.dumps(names)}")
    page.set_viewport_size({"width": width, "height": height})

    visit(page, server)

    frame = page.locator("#frame").bounding_box()
    assert frame is not None
    assert frame["height"] >= 64
    assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("width", [400, 1280])
def test_everything_fits_and_clicks_work_too(serve: Serve, page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 740})
    visit(page, serve())
    first = shown(page)

    page.locator("[data-label='4']").click()

    expect(page.locator("#path")).not_to_have_text(first)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    for button in page.locator("#classes button, nav button").all():
        box = button.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert box["y"] + box["height"] <= 740


def test_the_name_of_a_class_is_read_whole_on_a_phone(serve: Serve, page: Page) -> None:
    page.set_viewport_size({"width": 400, "height": 740})
    server = serve("--set", 'data.classes=["Grüne Birne", "apple", "banana"]')

    page.goto(server.url)
    page.wait_for_selector("#classes .name")

    is_cut = "n => n.scrollWidth > n.clientWidth || n.scrollHeight > n.clientHeight"
    assert (
        page.eval_on_selector_all("#classes .name", f"names => names.filter({is_cut}).length") == 0
    )


def test_nothing_is_loaded_from_elsewhere(serve: Serve, page: Page) -> None:
    server = serve()
    hosts: set[str] = set()
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))

    visit(page, server)
    press(page, "1")

    assert hosts == {server.url.split("/")[2]}


def test_a_label_that_came_with_the_data_is_found_again_and_corrected(
    half: Path, serve: Serve, page: Page
) -> None:
    came = labels_of(half)
    visit(page, serve())
    waiting = shown(page)

    page.get_by_role("button", name="look through").click()
    page.get_by_label("Class", exact=True).select_option("=3")
    threes = sum(label == "3" for label in came.values())
    expect(page.locator("#found")).to_have_text(f"{threes} of {threes}")
    tile = page.locator("#wall button").first
    path = tile.get_attribute("title")
    page.locator("#close").focus()
    page.keyboard.press("4")  # means nothing on the wall
    tile.click()
    expect(page.locator("#path")).to_have_text(path)
    expect(page.locator("#given")).to_have_text("labeled 3")
    page.keyboard.press("4")
    expect(page.locator("#gallery")).to_be_visible()
    expect(page.locator(f"#wall [title='{path}'] span")).to_have_text("4")
    page.keyboard.press("Escape")
    expect(page.locator("#path")).to_have_text(waiting)
    saved(page)

    assert came[path] == "3"
    expect(page.locator("#done")).to_have_text(str(LABELED))
    assert run(half, "label", "export").returncode == 0
    assert labels_of(half) == came | {path: "4"}


def test_a_correction_that_was_taken_back_leaves_the_label_that_came_with_the_data(
    half: Path, serve: Serve, page: Page
) -> None:
    came = labels_of(half)
    visit(page, serve())
    page.get_by_role("button", name="look through").click()
    tile = page.locator("#wall button").first
    path = tile.get_attribute("title")
    tile.click()
    page.keyboard.press("1" if came[path] != "1" else "2")
    page.keyboard.press("Escape")

    page.keyboard.press("u")
    expect(page.locator("#given")).to_have_text(f"labeled {came[path]}")
    saved(page)

    assert run(half, "label", "export").returncode == 0
    assert labels_of(half) == came
