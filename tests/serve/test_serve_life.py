"""The life of a server: start, change of model, overload, stop, kill."""

import asyncio
import base64
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from serving import (
    CONFIG,
    NAME,
    Server,
    end,
    eventually,
    expected,
    make_image,
    make_package,
    mlstack,
    start,
)

from mlstack.inputs import images
from mlstack.records import requests
from mlstack.records.base import read, write
from mlstack.records.package import Live
from mlstack.records.server import ServerSpec


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with three packages, none live; they disagree, which ends no canary here."""
    (tmp_path / "mlstack.yaml").write_text(CONFIG + "serve: {traffic: {rollback: {auto: false}}}\n")
    for number in (1, 2, 3):
        make_package(tmp_path, number=number, seed=number)
    return tmp_path


@pytest.fixture
def running(root: Path) -> Iterator[Server]:
    mlstack(root, "serve", "promote", "1")
    server = start(root)
    yield server
    end(server)


def ask(server: Server, content: bytes, **headers: str) -> httpx.Response:
    return httpx.post(f"{server.url}/predict", content=content, headers=headers)


def rows(root: Path) -> list[dict[str, object]]:
    log = root / ".mlstack" / "requests"
    return [
        row for part in requests.parts(log, NAME) for row in requests.read_part(part).to_pylist()
    ]


def test_sixty_four_clients_each_get_their_own_answer(running: Server, root: Path) -> None:
    contents = [make_image(root / "many" / f"{i}.png", 1000 + i) for i in range(64)]
    truths = [expected(root / "models" / NAME / "1", content) for content in contents]

    async def client(index: int) -> None:
        async with httpx.AsyncClient(base_url=running.url, timeout=60) as http:
            for _ in range(5):
                body = (await http.post("/predict", content=contents[index])).json()
                shares = list(body["probabilities"].values())
                assert shares == pytest.approx(truths[index].tolist(), abs=1e-5)

    async def everyone() -> None:
        await asyncio.gather(*(client(index) for index in range(64)))

    asyncio.run(everyone())

    metrics = running.metrics()
    calls = metrics[f'mlstack_batch_size_count{{model="{NAME}"}}']
    assert metrics[f'mlstack_batch_size_sum{{model="{NAME}"}}'] == 320
    assert calls < 320  # some shared a call
    assert running.stop() == 0
    answered = [row["prediction_id"] for row in rows(root)]
    assert len(answered) == len(set(answered)) == 320


def test_sigterm_ends_with_0_and_leaves_a_packed_log(running: Server, root: Path) -> None:
    content = make_image(root / "one.png", 7)
    body = ask(running, content, **{"x-request-id": "mine"}).json()
    ask(running, b"no image")

    code = running.stop(signal.SIGTERM)

    log = root / ".mlstack" / "requests"
    assert code == 0
    assert list((log / "wal").iterdir()) == []
    assert not (root / ".mlstack" / "serve.json").exists()
    good, refused = rows(root)
    assert good["prediction_id"] == body["prediction_id"]
    assert good["request_id"] == "mine"
    assert (good["model"], good["version"], good["status"]) == (NAME, 1, 200)
    assert good["prediction"] == body["prediction"]
    assert good["confidence"] == pytest.approx(body["confidence"], abs=1e-5)
    assert len(good["probabilities"]) == 10
    assert good["input"] == content
    assert good["latency_us"] > 0
    assert 0 < good["f_brightness"] < 1
    assert refused["status"] == 400
    assert refused["error"] == f"body: not an image of these kinds: {', '.join(images.FORMATS)}"
    assert refused["prediction"] is None
    part = requests.parts(log, NAME)[0].relative_to(log)
    assert part.parent.parent.parent == Path(f"model={NAME}")


def test_ctrl_c_ends_with_0(running: Server) -> None:
    assert running.stop(signal.SIGINT) == 0


def test_a_kill_loses_at_most_the_flush_interval_and_the_next_start_packs(
    running: Server, root: Path
) -> None:
    content = make_image(root / "one.png", 7)
    acknowledged: list[tuple[float, str]] = []
    with httpx.Client(base_url=running.url) as http:
        stop = time.monotonic() + 0.6
        while time.monotonic() < stop:
            body = http.post("/predict", content=content).json()
            acknowledged.append((time.monotonic(), body["prediction_id"]))
    running.process.kill()
    killed = time.monotonic()
    running.process.wait()

    (wal,) = (root / ".mlstack" / "requests" / "wal").iterdir()
    kept = set(requests.read_wal(wal).column("prediction_id").to_pylist())
    lost = [moment for moment, name in acknowledged if name not in kept]
    # the interval is 50 ms; the rest is for a machine that does other things as well
    assert all(killed - moment < 0.3 for moment in lost)
    assert acknowledged[0][1] in kept  # the encoder was warm when the first request came

    again = start(root)
    packed = {row["prediction_id"] for row in rows(root)}
    end(again)
    assert packed == kept
    assert not wal.exists()


def test_a_damaged_write_ahead_file_does_not_stop_the_next_start(root: Path) -> None:
    wal = root / ".mlstack" / "requests" / "wal"
    wal.mkdir(parents=True)
    (wal / f"{NAME}-1-1700000000000000.arrows").write_bytes(b"")
    (wal / f"{NAME}-2-1700000000000001.arrows").write_bytes(b"\xff\xff\xff\xff\x10\0")

    server = start(root)

    assert len(list(wal.iterdir())) == 1  # its own
    end(server)


def test_promote_and_rollback_take_effect_while_requests_go_on(running: Server, root: Path) -> None:
    content = make_image(root / "one.png", 7)
    seen: list[tuple[int, int]] = []
    over = threading.Event()

    def client() -> None:
        with httpx.Client(base_url=running.url) as http:
            while not over.is_set():
                answer = http.post("/predict", content=content)
                seen.append((answer.status_code, answer.json()["version"]))

    asking = threading.Thread(target=client)
    asking.start()
    promoted = mlstack(root, "serve", "promote", "2", "--json")
    back = mlstack(root, "serve", "rollback", "--json")
    over.set()
    asking.join()

    assert json.loads(promoted.stdout)["taken_over"] is True
    assert json.loads(back.stdout)["live"] == 1
    assert {code for code, _ in seen} == {200}
    versions = [version for _, version in seen]
    assert {1, 2} == set(versions)
    assert versions[0] == versions[-1] == 1 or 2 in versions
    assert running.metrics()['mlstack_reload_total{result="done"}'] == 2


def test_a_canary_gets_its_share_and_keeps_its_sessions(running: Server, root: Path) -> None:
    content = make_image(root / "one.png", 7)
    begun = mlstack(root, "serve", "canary", "3", "--percent", "30", "--json")

    with httpx.Client(base_url=running.url) as http:

        def version(session: int) -> int:
            headers = {"x-session-id": f"session-{session}"}
            return http.post("/predict", content=content, headers=headers).json()["version"]

        first = [version(session) for session in range(200)]
        second = [version(session) for session in range(200)]
        exact = http.get(f"/v2/models/{NAME}/versions/3/ready").status_code

    ended = mlstack(root, "serve", "canary", "--off", "--json")
    assert json.loads(begun.stdout)["taken_over"] is True
    assert first == second
    assert 0.2 < first.count(3) / 200 < 0.4
    assert exact == 200
    assert json.loads(ended.stdout)["canary"] is None
    assert {ask(running, content).json()["version"] for _ in range(20)} == {1}


def test_a_broken_package_is_not_taken_over(running: Server, root: Path) -> None:
    model = root / "models" / NAME / "2" / "model.onnx"
    model.write_bytes(model.read_bytes()[:-100])
    live = root / "models" / NAME / "live.json"

    refused = mlstack(root, "serve", "promote", "2", "--json")
    live.write_text(live.read_text().replace('"live": 1', '"live": 2'))  # behind our back
    eventually(lambda: running.metrics().get('mlstack_reload_total{result="failed"}'))

    assert refused.returncode == 3
    assert "differs from the package's manifest" in json.loads(refused.stdout)["error"]["problem"]
    assert ask(running, make_image(root / "one.png", 7)).json()["version"] == 1
    assert "the old model goes on answering" in (root / "stderr.txt").read_text()


def test_what_could_not_be_loaded_for_the_moment_is_taken_over_when_it_is_promoted_again(
    running: Server, root: Path
) -> None:
    package = root / "models" / NAME / "3"
    content = make_image(root / "one.png", 7)
    shutil.rmtree(root / ".mlstack" / "proven")
    log = root / ".mlstack" / "serve-worker.log"
    log.unlink(missing_ok=True)
    log.mkdir()  # so that no process can be started, as on a full disk

    write(root / "models" / NAME / "live.json", Live(live=3))
    eventually(lambda: running.metrics().get('mlstack_reload_total{result="failed"}') == 1)
    before = ask(running, content).json()["version"]
    log.rmdir()
    promoted = mlstack(root, "serve", "promote", "3", "--json")

    answer = ask(running, content).json()
    assert before == 1
    assert json.loads(promoted.stdout)["taken_over"] is True
    assert answer["version"] == 3
    assert answer["prediction"] == str(expected(package, content).argmax())


def test_another_process_with_the_number_of_a_killed_server_is_no_server(
    running: Server, root: Path
) -> None:
    place = root / ".mlstack" / "serve.json"
    running.process.kill()
    running.process.wait(10)
    with subprocess.Popen(["sleep", "60"]) as other:
        spec = json.loads(place.read_text()) | {"pid": other.pid}
        place.write_text(json.dumps(spec))
        said = mlstack(root, "serve", "status").stdout
        other.kill()

    assert "no server runs" in said


def test_feedback_is_on_disk_when_it_is_answered(running: Server, root: Path) -> None:
    body = ask(running, make_image(root / "one.png", 7)).json()
    said = {"prediction_id": body["prediction_id"], "label": "3"}

    answer = httpx.post(f"{running.url}/feedback", json=said)
    running.process.kill()

    (part,) = requests.feedback_parts(root / ".mlstack" / "feedback")
    (row,) = requests.read_part(part).to_pylist()
    assert answer.status_code == 200
    assert (row["prediction_id"], row["label"]) == (body["prediction_id"], "3")
    assert requests.read_part(part).schema == requests.FEEDBACK_SCHEMA


def test_a_full_queue_answers_429_and_the_rest_is_answered(root: Path) -> None:
    (root / "mlstack.yaml").write_text(
        CONFIG + "serve: {batching: {max_queue: 4, max_delay_ms: 300, max_size: 64}}\n"
    )
    content = make_image(root / "one.png", 7)
    server = start(root)

    async def everyone() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=server.url) as http:
            return await asyncio.gather(*(http.post("/predict", content=content) for _ in range(9)))

    answers = asyncio.run(everyone())
    metrics = server.metrics()
    end(server)
    codes = [answer.status_code for answer in answers]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert codes.count(200) >= 4
    assert set(codes) == {200, 429}
    assert int(refused.headers["retry-after"]) >= 1
    assert metrics['mlstack_rejected_total{reason="429"}'] == codes.count(429)


def test_rows_whose_client_has_gone_are_not_run(root: Path) -> None:
    (root / "mlstack.yaml").write_text(CONFIG + "serve: {batching: {max_delay_ms: 500}}\n")
    content = make_image(root / "one.png", 7)
    server = start(root)
    host, port = server.url.removeprefix("http://").split(":")
    head = f"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: {len(content)}\r\n\r\n"

    for _ in range(3):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head.encode() + content)
            time.sleep(0.05)
    eventually(lambda: server.metrics().get('mlstack_rejected_total{reason="499"}') == 3)

    assert server.metrics()[f'mlstack_batch_size_count{{model="{NAME}"}}'] == 0
    end(server)


def test_what_is_queued_is_answered_before_the_server_stops(root: Path) -> None:
    (root / "mlstack.yaml").write_text(CONFIG + "serve: {batching: {max_delay_ms: 400}}\n")
    content = make_image(root / "one.png", 7)
    server = start(root)
    answers: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: answers.append(ask(server, content)))

    asking.start()
    eventually(lambda: server.metrics()["mlstack_queue_rows"] == 1)
    code = server.stop(signal.SIGTERM)
    asking.join()

    end(server)
    assert code == 0
    assert [answer.status_code for answer in answers] == [200]
    assert len(rows(root)) == 1


def test_a_stopping_server_is_not_ready_and_ends_each_connection_with_its_answer(
    root: Path,
) -> None:
    (root / "mlstack.yaml").write_text(CONFIG + "serve: {batching: {max_delay_ms: 900}}\n")
    content = make_image(root / "one.png", 7)
    server = start(root)
    with httpx.Client(base_url=server.url) as held, httpx.Client(base_url=server.url) as other:
        held.get("/v2")
        other.get("/v2")
        asking = threading.Thread(target=lambda: ask(server, content))
        asking.start()
        eventually(lambda: server.metrics()["mlstack_queue_rows"] == 1)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.02)
        ready = held.get("/health/ready")
        last = other.post("/predict", content=content)
        with pytest.raises(httpx.ConnectError):
            ask(server, content)
        asking.join()

    server.process.wait(10)
    end(server)
    assert ready.status_code == 503
    assert last.status_code == 200
    assert last.headers["connection"] == "close"


@pytest.mark.parametrize("keeps_alive", [True, False])
def test_a_client_sees_answers_and_then_a_closed_door_when_the_server_stops(
    running: Server, root: Path, keeps_alive: bool
) -> None:
    content = make_image(root / "one.png", 7)
    limits = httpx.Limits(max_keepalive_connections=1 if keeps_alive else 0)
    seen: list[int] = []
    ends: list[Exception] = []

    def client() -> None:
        with httpx.Client(base_url=running.url, limits=limits) as http:
            try:
                while True:
                    seen.append(http.post("/predict", content=content).status_code)
            except httpx.HTTPError as error:
                ends.append(error)

    asking = threading.Thread(target=client)
    asking.start()
    eventually(lambda: len(seen) > 50)
    code = running.stop(signal.SIGTERM)
    asking.join()

    assert code == 0
    assert set(seen) == {200}
    assert isinstance(ends[0], httpx.ConnectError)
    assert {row["status"] for row in rows(root)} == {200}
    assert len(rows(root)) == len(seen)


def test_the_log_keeps_only_what_it_may(root: Path) -> None:
    (root / "mlstack.yaml").write_text(
        CONFIG + "serve: {log: {redact: [input, brightness, confidence]}}\n"
    )
    server = start(root)
    ask(server, make_image(root / "one.png", 7))
    server.stop()
    end(server)

    (row,) = rows(root)
    assert row["input"] is None
    assert row["f_brightness"] is None
    assert row["confidence"] is None
    assert row["f_contrast"] > 0


def test_a_full_disk_costs_rows_of_the_log_and_no_answer(root: Path) -> None:
    command = f"ulimit -f 40; exec {sys.executable} -m mlstack serve --port 0 --quiet"
    process = subprocess.Popen(
        ["bash", "-c", command], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    server = Server(process, process.stdout.readline().strip(), root, "")
    content = make_image(root / "one.png", 7) + bytes(50_000)  # more than the file may grow

    codes = {ask(server, content).status_code for _ in range(3)}
    eventually(lambda: server.metrics()["mlstack_log_rows_lost_total"] == 3)
    server.process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)

    assert codes == {200}
    assert process.returncode == 0
    assert said.count("warning: the request log cannot be written") == 1
    assert "Traceback" not in said


def test_old_days_of_the_log_are_deleted(root: Path) -> None:
    log = root / ".mlstack" / "requests" / f"model={NAME}"
    (log / "date=2020-01-01" / "hour=00").mkdir(parents=True)
    (log / "date=2999-01-01" / "hour=00").mkdir(parents=True)

    server = start(root)

    end(server)
    assert [day.name for day in sorted(log.iterdir())] == ["date=2999-01-01"]


def test_several_images_are_several_rows_with_their_own_ids(running: Server, root: Path) -> None:
    contents = [make_image(root / f"{i}.png", i) for i in range(3)]
    sent = {"images": [base64.b64encode(content).decode() for content in contents]}

    said = httpx.post(f"{running.url}/predict", json=sent).json()["predictions"]
    feedback = {"prediction_id": said[2]["prediction_id"], "label": "1"}
    kept = httpx.post(f"{running.url}/feedback", json=feedback).status_code
    running.stop()

    logged = rows(root)
    assert kept == 200
    assert [row["prediction_id"] for row in logged] == [one["prediction_id"] for one in said]
    assert [row["input"] for row in logged] == contents
    assert {row["batch"] for row in logged} == {3}


def test_the_first_of_two_servers_is_found_again_when_the_second_has_ended(root: Path) -> None:
    first = start(root)
    second = start(root)
    place = root / ".mlstack" / "serve.json"
    try:
        assert read(place, ServerSpec).url == second.url
        assert second.stop() == 0

        eventually(lambda: place.is_file() and read(place, ServerSpec).url == first.url)
        assert place.stat().st_mode & 0o777 == 0o600
        assert first.stop() == 0
        assert not place.exists()
    finally:
        end(first)
        end(second)
