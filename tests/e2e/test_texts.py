"""The story of texts: made, versioned, trained, packed, served, asked and watched."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.test_tabular import CHROMIUM, Story, eventually_logged, mlstack, served
from playwright.sync_api import sync_playwright

from mlstack.inputs import tables

pytestmark = [pytest.mark.slow, pytest.mark.e2e]


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """The shipped texts, up to a running server."""
    folder = tmp_path_factory.mktemp("messages")
    said = mlstack(folder, "init", "tongues", "--template", "text-classification")
    assert "5,000 real texts" in said
    root = folder / "tongues"
    mlstack(root, "version", "check")
    mlstack(root, "train", "--check")
    mlstack(root, "train", "--epochs", "6", "--ranks", "2")
    mlstack(root, "export", "--set", "gates.validation={test/acc: {min: 0.7}}")
    mlstack(root, "export", "verify")
    table = tables.read(root / "data" / "messages" / "table.csv")
    yield from served(root, table.select(["text"]).to_pylist())


def test_texts_are_answered_as_when_they_were_packed(messages: Story) -> None:
    folder = messages.root / "models" / "tongues" / "1" / "mlstack" / "golden"
    golden = messages.golden()
    rows = [json.loads((folder / one["file"]).read_text()) for one in golden]

    said = messages.ask({"rows": rows})["predictions"]
    offline = json.loads(
        mlstack(messages.root, "serve", "predict", str(folder / golden[0]["file"]), "--json")
    )

    assert [one["prediction"] for one in said] == [one["prediction"] for one in golden]
    assert messages.ask(rows[0])["prediction"] == golden[0]["prediction"]
    assert offline["predictions"][0]["prediction"] == golden[0]["prediction"]
    for one, kept in zip(said, golden, strict=True):
        assert list(one["probabilities"].values()) == pytest.approx(kept["probabilities"], abs=1e-5)


def test_what_is_no_text_is_refused_and_a_missing_one_answered(messages: Story) -> None:
    for body, field in (
        ({"rows": [{"text": "a"}, {"text": 5}]}, "rows[1].text"),
        ({"txt": "a"}, "text"),
        ({"rows": []}, "rows"),
    ):
        answer = messages.http.post("/predict", json=body)

        assert (answer.status_code, answer.json()["field"]) == (400, field), answer.text
    assert messages.ask({"text": None})["prediction"]


def test_a_text_file_is_predicted_as_the_text_that_it_holds(
    messages: Story, tmp_path: Path
) -> None:
    text = "Bitte geben Sie ein gültiges Datum ein."
    (tmp_path / "one.txt").write_text(text, encoding="utf-8-sig")
    arguments = ("serve", "predict", str(tmp_path / "one.txt"), "--quiet")

    here = mlstack(messages.root, *arguments)
    there = mlstack(messages.root, *arguments, "--url", str(messages.http.base_url))

    assert here == there == messages.ask({"text": text})["prediction"] + "\n"


def test_openapi_and_the_signature_say_what_a_text_becomes(messages: Story) -> None:
    schemas = messages.http.get("/openapi.json").json()["components"]["schemas"]
    (tensor,) = messages.http.get("/v2/models/tongues").json()["inputs"]

    kept = json.loads((messages.root / "models/tongues/1/mlstack/signature.json").read_text())
    assert kept["preprocess"]["shortens"]
    assert schemas["Row"]["properties"] == {"text": {"type": ["string", "null"]}}
    assert (tensor["datatype"], tensor["shape"]) == ("INT32", [-1, 96])


def test_the_page_takes_a_text_and_shows_the_answer(messages: Story) -> None:
    assert CHROMIUM, "type `make system`"
    text = "Bitte geben Sie ein gültiges Datum ein."
    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(str(messages.http.base_url))
        page.fill("textarea[data-column=text]", text)
        page.click("#form button")
        page.wait_for_selector("#found:not([hidden])")
        said = page.inner_text("#prediction")
        page.fill("textarea[data-column=text]", "it's")
        command = page.inner_text("#curl")
        page.fill("textarea[data-column=text]", "x" * 200)
        page.set_viewport_size({"width": 400, "height": 800})
        width = page.evaluate("document.documentElement.scrollWidth")
        browser.close()

    assert width == 400
    curl, flag, sent, url = shlex.split(command)
    assert (curl, flag, json.loads(sent)) == ("curl", "-d", {"text": "it's"})
    assert messages.http.post(url, content=sent).status_code == 200
    assert said == messages.ask({"text": text})["prediction"] == "German"


def test_the_monitor_is_silent_on_such_texts_and_names_a_script_it_never_saw(
    messages: Story,
) -> None:
    for start in range(0, 1000, 100):
        messages.ask({"rows": messages.rows[start : start + 100]})
    eventually_logged()
    assert "look like the reference" in mlstack(messages.root, "monitor", "check")

    for start in range(0, 500, 100):
        strange = [{"text": f"Сообщение {n}: пурга"} for n in range(start, start + 100)]
        messages.ask({"rows": strange})
    eventually_logged()
    said = mlstack(messages.root, "monitor", "check", code=5)

    assert "input `token_length` changed" in said


def test_a_text_may_be_kept_out_of_the_log(messages: Story, tmp_path: Path) -> None:
    settings = messages.root / "mlstack.yaml"
    before = settings.read_text()
    settings.write_text(before + "\nserve: {log: {redact: [text]}}\n")
    try:
        for story in served(messages.root, []):
            story.ask({"text": "ein Geheimnis, das niemand lesen darf"})
            eventually_logged()
    finally:
        settings.write_text(before)

    logged = b"".join(
        path.read_bytes() for path in (messages.root / ".mlstack" / "requests").rglob("*.*")
    )
    assert b"Geheimnis" not in logged
