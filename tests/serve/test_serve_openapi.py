"""The whole interface as /openapi.json describes it."""

from pathlib import Path

import described
from serving import Server


def test_every_answer_is_what_the_description_of_an_image_model_says(
    server: Server, tmp_path: Path
) -> None:
    assert "19 selected / 19 total" in described.ask(server.url, tmp_path, examples=12)
