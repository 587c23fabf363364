"""Late labels: an answer of 200 means that the label is on the disk."""

import asyncio
from pathlib import Path

import httpx
from serving import CONFIG, end, make_package, start

from mlstack.records import requests
from mlstack.serve.worker.answers import Refused
from mlstack.serve.worker.feedback import MERGE_FROM, Feedback, FeedbackBody, merge

ID = "019a0000-0000-7000-8000-00000000000"


def test_labels_that_share_a_part_which_cannot_be_written_are_all_refused(tmp_path: Path) -> None:
    folder = tmp_path / "feedback"

    async def add() -> list[BaseException | None]:
        labels = [FeedbackBody(prediction_id=f"{ID}{place}", label="3") for place in range(4)]
        asked = [asyncio.create_task(late.add(label)) for label in labels]
        return await asyncio.gather(*asked, return_exceptions=True)

    async def act() -> tuple[list[BaseException | None], list[BaseException | None]]:
        folder.write_text("no folder")
        refused = await add()
        folder.unlink()
        return refused, await add()

    late = Feedback(folder)
    refused, kept = asyncio.run(act())
    late.close()

    assert [type(one) for one in refused] == [Refused] * 4
    assert kept == [None] * 4

    ids = [requests.read_part(p)["prediction_id"].to_pylist() for p in folder.iterdir()]

    assert sorted(name for some in ids for name in some) == [f"{ID}{place}" for place in range(4)]


def test_a_damaged_part_keeps_no_server_from_starting(tmp_path: Path) -> None:
    async def add() -> None:
        for place in range(MERGE_FROM):
            await late.add(FeedbackBody(prediction_id=f"{ID}{place}", label="3"))

    late = Feedback(tmp_path)
    asyncio.run(add())
    late.close()
    damaged = requests.feedback_parts(tmp_path)[50]
    whole = damaged.read_bytes()

    damaged.write_bytes(whole[:-20])
    merge(tmp_path)
    assert len(requests.feedback_parts(tmp_path)) == MERGE_FROM

    damaged.write_bytes(whole)
    merge(tmp_path)
    (part,) = requests.feedback_parts(tmp_path)
    assert requests.read_part(part).num_rows == MERGE_FROM


def test_parts_are_merged_while_the_server_runs(tmp_path: Path) -> None:
    async def add() -> None:
        for place in range(MERGE_FROM):
            await late.add(FeedbackBody(prediction_id=f"{ID}{place}", label="3"))
            late.tick()

    late = Feedback(tmp_path, merge_s=0)
    asyncio.run(add())
    late.close()

    (part,) = requests.feedback_parts(tmp_path)
    assert requests.read_part(part).num_rows == MERGE_FROM


def test_a_disk_that_takes_no_label_is_a_503_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    (tmp_path / "mlstack.yaml").write_text(CONFIG)
    make_package(tmp_path)
    (tmp_path / ".mlstack" / "feedback").write_text("no folder")
    server = start(tmp_path)

    answer = httpx.post(f"{server.url}/feedback", json={"prediction_id": f"{ID}0", "label": "3"})

    end(server)
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert "the label cannot be kept" in answer.json()["error"]
    assert "Traceback" not in (tmp_path / "stderr.txt").read_text()
