"""Canary, shadow and changes of the model while requests go on."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from serving import (
    CLASSES,
    CONFIG,
    NAME,
    Kind,
    Server,
    end,
    eventually,
    expected,
    make_image,
    make_package,
    mlstack,
    start,
    white_image,
)

from mlstack import files
from mlstack.records import requests
from mlstack.records.base import read, write
from mlstack.records.package import Live
from mlstack.serve import live as live_file

SLOW = Kind(work=1200)  # some hundred times the work of the others
SLOWEST = Kind(work=3000)  # more than the shadow's queue holds is sent while it does one batch
FAILING = Kind(fails_on_white=True)
QUICK_VERDICT = "serve: {traffic: {rollback: {min_requests: 10}}}\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "mlstack.yaml").write_text(CONFIG + QUICK_VERDICT)
    make_package(tmp_path, number=1, seed=1)
    live_file.promote(tmp_path / "models" / NAME, 1)
    return tmp_path


@contextmanager
def serving(root: Path) -> Iterator[Server]:
    server = start(root)
    try:
        yield server
    finally:
        end(server)


def folder(root: Path) -> Path:
    return root / "models" / NAME


def live(root: Path) -> Live:
    return read(folder(root) / "live.json", Live)


def shown(server: Server) -> tuple[int | None, ...]:
    health = httpx.get(f"{server.url}/health/ready").json()
    return health["version"], health["canary"], health["shadow"]


def traffic(server: Server) -> dict[str, Any]:
    return httpx.get(f"{server.url}/traffic").json()


def ask(server: Server, contents: list[bytes]) -> list[tuple[int, int]]:
    """Ask one after the other; give status and version of each answer."""
    with httpx.Client(base_url=server.url, timeout=30) as client:
        answers = [client.post("/predict", content=content) for content in contents]
    return [(answer.status_code, answer.json().get("version")) for answer in answers]


def images(root: Path, count: int) -> list[bytes]:
    return [make_image(root / "asked" / f"{i}.png", 100 + i) for i in range(count)]


def said(package: Path, content: bytes) -> str:
    return CLASSES[int(expected(package, content).argmax())]


# Shadow


def test_a_shadow_is_asked_and_compared_and_answers_nobody(root: Path) -> None:
    shadow = make_package(root, number=2, seed=2)
    contents = images(root, 40)
    with serving(root) as server:
        begun = json.loads(mlstack(root, "serve", "shadow", "2", "--json").stdout)
        answers = ask(server, contents)
        eventually(lambda: traffic(server)["shadow"]["compared"] == 40)

        told = traffic(server)["shadow"]
        metrics = server.metrics()
        status = mlstack(root, "serve", "status").stdout
        server.stop()
    truth = sum(said(folder(root) / "1", one) == said(shadow, one) for one in contents)
    parts = requests.parts(root / ".mlstack" / "requests", NAME)
    assert begun["taken_over"] is True
    assert answers == [(200, 1)] * 40
    assert told["agreed"] == truth < 40
    assert told["dropped"] == told["failed"] == 0
    assert metrics['mlstack_shadow_mismatch_total{model="digits-test",version="2"}'] == 40 - truth
    assert (
        f"shadow 2: 0 rows failed, 0 dropped; agrees with the live model in {truth / 40:.1%}"
        in (status)
    )
    assert {row["version"] for part in parts for row in requests.read_part(part).to_pylist()} == {1}


def test_a_share_of_the_requests_goes_to_the_shadow_until_it_ends(root: Path) -> None:
    make_package(root, number=2, seed=1)
    live_file.set_shadow(folder(root), 2, 30)
    with serving(root) as server:
        ask(server, images(root, 10) * 20)
        eventually(lambda: 30 <= traffic(server)["shadow"]["compared"] <= 90)
        ended = json.loads(mlstack(root, "serve", "shadow", "--off", "--json").stdout)
        again = json.loads(mlstack(root, "serve", "shadow", "--off", "--json").stdout)

        assert "shadow" not in traffic(server)
    assert (ended["shadow"], ended["taken_over"]) == (None, True)
    assert again["note"] == "there is no shadow"


def test_a_canary_takes_nothing_from_the_share_of_the_shadow(root: Path) -> None:
    make_package(root, number=2, seed=1)
    make_package(root, number=3, seed=1)
    live_file.set_canary(folder(root), 2, 30)
    live_file.set_shadow(folder(root), 3, 30)
    with serving(root) as server:
        answers = ask(server, images(root, 10) * 40)
        eventually(
            lambda: (
                (told := traffic(server)["shadow"])["compared"] + told["dropped"] > 400 * 0.7 * 0.2
            ),
            10,
        )

    assert {version for _, version in answers} == {1, 2}


def test_a_shadow_without_a_share_is_refused(root: Path) -> None:
    make_package(root, number=2, seed=1)

    ran = mlstack(root, "serve", "shadow", "2", "--percent", "0")

    assert ran.returncode == 2
    assert "--off" in ran.stderr
    assert live(root).shadow is None


def test_what_a_slow_shadow_has_no_time_for_is_dropped_and_nobody_waits(root: Path) -> None:
    make_package(root, number=2, seed=1, kind=SLOWEST)
    live_file.set_shadow(folder(root), 2, 100)
    contents = images(root, 8) * 50
    with serving(root) as server:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda i: ask(server, contents[i::8]), range(8)))
        told = traffic(server)["shadow"]

        assert {pair for some in answers for pair in some} == {(200, 1)}
        assert told["dropped"] > 0
        assert told["compared"] + told["dropped"] <= 400


def test_a_shadow_that_fails_costs_nobody_an_answer(root: Path) -> None:
    make_package(root, number=2, seed=1, kind=FAILING)
    live_file.set_shadow(folder(root), 2, 100)
    with serving(root) as server:
        answers = ask(server, [white_image()] * 20)
        eventually(lambda: traffic(server)["shadow"]["failed"] == 20)

    assert answers == [(200, 1)] * 20
    assert (root / "stderr.txt").read_text().count("warning: the shadow 2 fails") == 1


def test_a_shadow_of_another_image_size_reads_the_request_for_itself(root: Path) -> None:
    shadow = make_package(root, number=2, seed=2, kind=Kind(size=12))
    live_file.set_shadow(folder(root), 2, 100)
    contents = images(root, 20)
    with serving(root) as server:
        ask(server, contents)
        eventually(lambda: traffic(server)["shadow"]["compared"] == 20)

        told = traffic(server)["shadow"]
    truth = sum(said(folder(root) / "1", one) == said(shadow, one) for one in contents)
    assert (told["agreed"], told["failed"]) == (truth, 0)


@pytest.mark.parametrize("role", ["canary", "shadow"])
def test_what_cannot_be_loaded_beside_the_live_model_does_not_keep_it_from_answering(
    root: Path, role: str
) -> None:
    package = make_package(root, number=2)
    live_file.set_canary(folder(root), 2, 50) if role == "canary" else live_file.set_shadow(
        folder(root), 2, 100
    )
    (package / "model.onnx").write_bytes(b"broken")

    with serving(root) as server:
        answers = ask(server, images(root, 20))

    assert answers == [(200, 1)] * 20
    assert f"it answers without the {role}" in (root / "stderr.txt").read_text()


@pytest.mark.parametrize("change", ["promote", "rollback"])
def test_who_becomes_live_is_its_own_shadow_no_more(root: Path, change: str) -> None:
    make_package(root, number=2, seed=1)
    if change == "rollback":
        live_file.promote(folder(root), 2)
        live_file.set_shadow(folder(root), 1, 100)
        live_file.roll_back(folder(root))
    else:
        live_file.set_shadow(folder(root), 2, 100)
        live_file.promote(folder(root), 2)

    assert live(root).live == (1 if change == "rollback" else 2)
    assert (live(root).shadow, live(root).shadow_percent) == (None, 0)


# A canary that is ended by itself


def test_a_canary_that_fails_is_ended_and_every_caller_gets_an_answer(root: Path) -> None:
    make_package(root, number=2, seed=1, kind=FAILING)
    live_file.set_canary(folder(root), 2, 50)
    with serving(root) as server:
        answers: list[tuple[int, int]] = []
        for _ in range(40):
            answers += ask(server, [white_image()] * 10)
            if live(root).canary is None:
                break
        metrics = server.metrics()
        status = mlstack(root, "serve", "status").stdout
        health = httpx.get(f"{server.url}/health/ready").json()

    assert set(answers) == {(200, 1)}
    assert live(root).live == 1
    assert (live(root).canary, live(root).canary_percent) == (None, 0)
    assert "canary 2 was ended:" in live(root).note
    assert "requests failed, the last one:" in live(root).note
    assert live(root).note in (root / "stderr.txt").read_text()
    assert live(root).note in status.replace("\n", " ")
    assert health["canary"] is None
    assert metrics['mlstack_rollback_total{reason="errors"}'] == 1


def test_a_canary_that_is_slow_is_ended(root: Path) -> None:
    make_package(root, number=2, seed=1, kind=SLOW)
    live_file.set_canary(folder(root), 2, 50)
    with serving(root) as server:
        answers: list[tuple[int, int]] = []
        for _ in range(40):
            answers += ask(server, images(root, 10))
            if live(root).canary is None:
                break

    assert {status for status, _ in answers} == {200}
    assert "answers took longer than" in live(root).note


def test_a_canary_that_answers_otherwise_is_ended_and_one_that_agrees_is_not(root: Path) -> None:
    make_package(root, number=2, seed=2)
    make_package(root, number=3, seed=1)
    live_file.set_canary(folder(root), 2, 50)
    contents = images(root, 20)
    with serving(root) as server:
        for _ in range(40):
            ask(server, contents)
            if live(root).canary is None:
                break
        note = live(root).note
        mlstack(root, "serve", "canary", "3", "--percent", "50")
        for _ in range(10):
            ask(server, contents)
        told = traffic(server)["canary"]

    assert "rows were answered otherwise than by the live model" in note
    assert live(root).canary == 3
    assert live(root).note == ""
    assert told["agreed"] == told["compared"] > 10
    assert told["failed"] == 0


def test_a_canary_that_was_ended_does_not_come_back_before_that_is_written(root: Path) -> None:
    make_package(root, number=2, seed=2)
    make_package(root, number=3, seed=1)
    live_file.set_canary(folder(root), 2, 50)
    with serving(root) as server:
        with files.lock(folder(root) / ".live.lock", "live.json"):  # a command is at it
            while shown(server)[1] == 2:
                ask(server, images(root, 20))
            both = msgspec.structs.replace(live(root), shadow=3, shadow_percent=100.0)
            write(folder(root) / "live.json", both)
            eventually(lambda: shown(server)[2] == 3)
            during = shown(server)
        eventually(lambda: live(root).canary is None)
        after = shown(server)

    assert during == after == (1, None, 3)
    assert "canary 2 was ended" in live(root).note


def test_a_mistake_of_the_caller_is_not_the_canarys(root: Path) -> None:
    make_package(root, number=2, seed=1)
    live_file.set_canary(folder(root), 2, 100)
    with serving(root) as server:
        answers = ask(server, [b"no image"] * 30)
        told = traffic(server)["canary"]

    assert {status for status, _ in answers} == {400}
    assert (told["requests"], told["failed"]) == (0, 0)


# What survives


def test_canary_and_shadow_are_there_again_after_a_kill(root: Path) -> None:
    for number in (2, 3):
        make_package(root, number=number, seed=1)
    with serving(root) as server:
        mlstack(root, "serve", "canary", "2", "--percent", "25")
        mlstack(root, "serve", "shadow", "3", "--percent", "50")
        before = httpx.get(f"{server.url}/health/ready").json()
        server.process.kill()
        server.process.wait(10)

    with serving(root) as server:
        after = httpx.get(f"{server.url}/health/ready").json()

    assert after == before
    assert (after["canary"], after["canary_percent"]) == (2, 25)
    assert (after["shadow"], after["shadow_percent"]) == (3, 50)


def test_a_server_killed_while_it_ends_a_canary_has_ended_it_or_does_so_again(root: Path) -> None:
    make_package(root, number=2, seed=1, kind=FAILING)
    live_file.set_canary(folder(root), 2, 100)
    with serving(root) as server:
        ask(server, [white_image()] * 12)
        server.process.kill()
        server.process.wait(10)

    left = live(root).canary
    with serving(root) as server:
        answers = ask(server, [white_image()] * 15)
        eventually(lambda: live(root).canary is None)

    assert left in (None, 2)
    assert answers == [(200, 1)] * 15
    assert live(root).live == 1


# Under load


class Clients:
    """Eight clients that ask all the time and compare each answer with the truth."""

    def __init__(self, server: Server, contents: list[bytes], truths: dict[int, Any]) -> None:
        self.seen: set[int] = set()
        self.wrong: list[object] = []
        self._server = server
        self._contents = contents
        self._truths = truths
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(8)

    def __enter__(self) -> "Clients":
        self._asking = [self._pool.submit(self._ask, index % 4) for index in range(8)]
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for one in self._asking:
            one.result()
        self._pool.shutdown()

    def _ask(self, which: int) -> None:
        with httpx.Client(base_url=self._server.url, timeout=30) as http:
            while not self._over.is_set():
                answer = http.post("/predict", content=self._contents[which])
                body = answer.json()
                if answer.status_code != 200:
                    self.wrong.append((answer.status_code, body))
                    continue
                self.seen.add(body["version"])
                truth = self._truths[body["version"]][which]
                if list(body["probabilities"].values()) != pytest.approx(truth, abs=1e-5):
                    self.wrong.append(body)


def test_promote_rollback_canary_and_shadow_under_load_fail_no_request(root: Path) -> None:
    settings = "serve: {traffic: {rollback: {auto: false}}}\n"  # they disagree on purpose
    (root / "mlstack.yaml").write_text(CONFIG + settings)
    contents = images(root, 4)
    truths: dict[int, Any] = {}
    for number in (1, 2, 3):
        # dear enough to run beside the event loop, so that requests wait when it changes
        package = make_package(root, number=number, seed=number, kind=Kind(work=400))
        truths[number] = [expected(package, one).tolist() for one in contents]
    changes = (
        lambda: live_file.promote(folder(root), 2),
        lambda: live_file.set_canary(folder(root), 3, 30),
        lambda: live_file.set_shadow(folder(root), 1, 100),
        lambda: live_file.roll_back(folder(root)),
    )

    def is_taken_over(server: Server) -> bool:
        wanted = live(root)
        return shown(server) == (wanted.live, wanted.canary, wanted.shadow)

    with serving(root) as server, Clients(server, contents, truths) as clients:
        for change in changes * 3:
            change()
            eventually(lambda: is_taken_over(server), 30)

    assert clients.wrong == []
    assert clients.seen == {1, 2, 3}
