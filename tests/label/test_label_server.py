import io
import json
import resource
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from label_server import IMAGES, LABELED, Server, labels_of, run
from PIL import Image

from mlstack.label.store import read_events

Serve = Callable[..., Server]


def events(project: Path) -> list[tuple[str, str | None]]:
    return [(e.path, e.label) for e in read_events(project / ".mlstack" / "labels.db")]


def test_a_script_labels_skips_and_undoes(half: Path, serve: Serve) -> None:
    server = serve("--annotator", "ann")

    project = server.get("/api/project").json()
    first, second = server.get("/api/next", annotator="ann", n=2).json()["items"]
    image = server.get(first["image"])
    labeled = server.label(first["path"], "7", seconds=1.5, client_id="one")
    again = server.label(first["path"], "7", seconds=1.5, client_id="one")
    skipped = server.post("/api/skip", path=second["path"], annotator="ann").json()
    undone = server.post("/api/undo", annotator="ann").json()
    stats = server.get("/api/stats").json()

    assert project["annotator"] == "ann"
    assert [c["name"] for c in project["classes"]] == list("0123456789")
    assert [c["keys"] for c in project["classes"]] == [[c] for c in "0123456789"]
    assert project["counts"]["total"] == IMAGES
    assert project["counts"]["remaining"] == IMAGES - LABELED
    assert image.content == (half / "data" / "digits" / first["path"]).read_bytes()
    assert image.headers["content-type"] == "image/png"
    assert labeled["counts"]["labeled"] == LABELED + 1
    assert labeled["items"][0]["path"] == second["path"]
    assert again["seq"] == labeled["seq"] == 1
    assert again["counts"] == labeled["counts"]
    assert skipped["counts"]["skipped"] == 1
    assert undone["undone"] == {"path": second["path"], "action": "skip", "label": None}
    assert undone["items"][0]["path"] == second["path"]
    assert stats["annotators"][0]["labels"] == 1
    assert server.stop(signal.SIGINT) == 0
    assert events(half) == [(first["path"], "7"), (second["path"], None), (second["path"], None)]


def test_an_undo_may_name_its_item(half: Path, serve: Serve) -> None:
    server = serve()
    first, second = (item["path"] for item in server.get("/api/next", n=2).json()["items"])
    server.label(first, "1")
    server.label(second, "2")

    undone = server.post("/api/undo", annotator="ann", path=first).json()
    nothing = server.post("/api/undo", annotator="ann", path=first).json()
    unknown = server.post("/api/undo", annotator="ann", path="no.png")

    assert undone["undone"] == {"path": first, "action": "label", "label": "1"}
    assert nothing["undone"] is None
    assert nothing["counts"]["labeled"] == LABELED + 1
    assert (unknown.status_code, unknown.json()["error"]["field"]) == (400, "path")


def test_a_large_image_is_small_where_many_are_shown(half: Path, serve: Serve) -> None:
    images = half / "data" / "digits" / "images"
    noise = np.random.default_rng(0).integers(0, 255, (600, 900, 3), dtype=np.uint8)
    Image.fromarray(noise).save(images / "photo.jpg", quality=95)
    (images / "torn.jpg").write_bytes((images / "photo.jpg").read_bytes()[:90_000])
    (images / "torn.tif").write_bytes(b"II*\0 no picture")
    server = serve()

    small = server.get("/api/items/images/photo.jpg/image", small="1")
    whole = server.get("/api/items/images/photo.jpg/image")
    torn = server.get("/api/items/images/torn.jpg/image", small="1")
    none = server.get("/api/items/images/torn.tif/image")

    with Image.open(io.BytesIO(small.content)) as picture:
        assert picture.size == (192, 128)
    assert small.headers["content-type"] == "image/png"
    assert whole.content == (images / "photo.jpg").read_bytes()
    assert torn.content == (images / "torn.jpg").read_bytes()
    assert none.status_code == 400
    assert "cannot be shown" in none.json()["error"]["problem"]


def test_a_wrong_request_names_its_field_and_writes_nothing(half: Path, serve: Serve) -> None:
    server = serve()
    path = server.get("/api/next").json()["items"][0]["path"]
    good = {"path": path, "label": "1", "annotator": "ann"}

    for field, value in {
        "path": "nowhere.png",
        "label": "cat",
        "annotator": "",
        "seconds": -1,
        "n": 0,
        "colour": "red",
    }.items():
        answer = server.post("/api/label", **good | {field: value})
        assert answer.status_code == 400, field
        assert answer.json()["error"]["field"] == field
    wrong_type = server.post("/api/label", **good | {"label": 1})
    no_json = httpx.post(
        server.url + "api/label", content=b"{", headers={"content-type": "application/json"}
    )

    assert wrong_type.json()["error"]["field"] == "label"
    assert no_json.status_code == 400
    assert events(half) == []


def test_what_is_labeled_can_be_looked_through_but_not_what_others_said(
    half: Path, serve: Serve
) -> None:
    server, came = serve(), labels_of(half)
    first, second = (item["path"] for item in server.get("/api/next", n=2).json()["items"])
    server.label(first, "1", annotator="ann")
    server.label(second, "2", annotator="bob")
    corrected = next(path for path, label in came.items() if label == "3")
    server.label(corrected, "5", annotator="ann")

    found = server.get("/api/labeled", annotator="ann").json()
    fives = server.get("/api/labeled", annotator="ann", label="5", n=1).json()
    end = server.get("/api/labeled", annotator="ann", **{"from": "1000"}).json()
    wrong = server.get("/api/labeled", annotator="ann", **{"from": "-1"})

    labels = {item["path"]: item["label"] for item in found["items"]}
    assert labels == came | {first: "1", corrected: "5"}
    assert fives["total"] == sum(label == "5" for label in labels.values())
    assert [item["label"] for item in fives["items"]] == ["5"]
    assert (end["items"], end["total"]) == ([], len(labels))
    assert (wrong.status_code, wrong.json()["error"]["field"]) == (400, "from")


def test_no_path_leads_out_of_the_dataset(serve: Serve) -> None:
    server = serve()

    for path in ("../../mlstack.yaml", "..%2f..%2fmlstack.yaml", "/etc/passwd", "labels.parquet"):
        answer = server.get(f"/api/items/{path}/image")
        assert answer.status_code == 404, path
    assert server.get("/..%2f..%2f__init__.py").status_code == 404


def test_strangers_are_refused(half: Path, serve: Serve) -> None:
    server = serve()
    path = server.get("/api/next").json()["items"][0]["path"]
    body = json.dumps({"path": path, "label": "1", "annotator": "ann"})
    as_json = {"content-type": "application/json"}

    rebound = httpx.get(server.url + "api/project", headers={"host": "evil.example"})
    form = httpx.post(server.url + "api/label", content=body)
    other_site = httpx.post(
        server.url + "api/label", content=body, headers=as_json | {"origin": "http://evil.example"}
    )

    assert rebound.status_code == 403
    assert form.status_code == 415
    assert other_site.status_code == 403
    assert events(half) == []
    assert server.get("/").headers["content-security-policy"].startswith("default-src 'self';")


def test_a_shared_page_wants_its_token(serve: Serve) -> None:
    server = serve("--share")
    port = int(server.url.split(":")[2].split("/")[0])
    token = server.url.split("token=")[1]
    local = f"http://127.0.0.1:{port}/"

    assert httpx.get(local).status_code == 401
    assert httpx.get(local, params={"token": "wrong"}).status_code == 401
    with httpx.Client() as browser:
        page = browser.get(local, params={"token": token})
        assert page.status_code == 200
        assert "httponly" in page.headers["set-cookie"].lower()
        assert browser.get(local + "api/project").json()["shared"]


def test_an_open_address_without_a_token_is_refused(half: Path) -> None:
    done = run(half, "label", "--host", "0.0.0.0", "--no-browser")

    assert done.returncode == 2
    assert "--share" in done.stderr


def test_a_second_server_and_an_import_are_told_to_wait(half: Path, serve: Serve) -> None:
    server = serve()
    (half / "more.csv").write_text("path,label\nimages/0100.png,3\n")

    second = run(half, "label", "--port", "0", "--no-browser")
    imported = run(half, "label", "import", "more.csv")

    assert second.returncode == 75
    assert "another mlstack is busy with labeling" in second.stderr
    assert imported.returncode == 75
    assert server.url in second.stderr
    assert server.url in imported.stderr
    server.stop()
    assert not (half / ".mlstack" / "label-address.json").exists()


@pytest.mark.parametrize("mode", ["--quiet", "--json"])
def test_scripts_are_told_the_address_on_stderr(serve: Serve, mode: str) -> None:
    server = serve(mode)

    assert server.get("/api/next").status_code == 200
    assert server.stop(signal.SIGINT) == 0
    assert server.out == "0\n" if mode == "--quiet" else json.loads(server.out)["ok"]


def test_a_taken_port_is_an_error_of_the_machine(half: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        done = run(half, "label", "--port", str(port), "--no-browser")

    assert done.returncode == 6
    assert f"port {port} is taken" in done.stderr
    assert "--port 0" in done.stderr


def test_sigterm_ends_it_and_its_server(serve: Serve) -> None:
    server = serve()
    worker = server.worker()
    item = server.get("/api/next").json()["items"][0]
    server.label(item["path"], "1")

    assert server.stop(signal.SIGTERM) == 143
    assert "1 answer saved" in server.err
    assert not worker.is_running()


def test_the_server_ends_when_its_command_was_killed(serve: Serve) -> None:
    server = serve()
    worker = server.worker()

    server.stop(signal.SIGKILL)

    assert psutil.wait_procs([worker], timeout=10)[1] == []


def test_no_acknowledged_label_is_lost_by_three_kills(half: Path, serve: Serve) -> None:
    acknowledged: list[tuple[str, str]] = []

    for kill in range(3):
        server = serve()
        for _ in range(25):
            item = server.get("/api/next", annotator="ann", n=1).json()["items"][0]
            label = str(len(acknowledged) % 10)
            server.label(item["path"], label, client_id=f"{kill}-{item['path']}")
            acknowledged.append((item["path"], label))
        server.worker().kill()
        server.process.wait(timeout=20)
        assert server.stop() == 1
        assert "SIGKILL" in server.err

    assert events(half) == acknowledged
    assert len({path for path, _ in acknowledged}) == 75


def test_a_label_that_cannot_be_written_is_not_acknowledged(half: Path, serve: Serve) -> None:
    server = serve()
    first, second = server.get("/api/next", n=2).json()["items"]
    server.label(first["path"], "1")
    wal = (half / ".mlstack" / "labels.db-wal").stat().st_size
    worker = server.worker()

    worker.rlimit(resource.RLIMIT_FSIZE, (wal, -1))  # the disk takes no byte more
    body = {"path": second["path"], "label": "2", "annotator": "ann", "client_id": "x"}
    refused = server.post("/api/label", **body)
    counts = server.get("/api/project").json()["counts"]
    worker.rlimit(resource.RLIMIT_FSIZE, (-1, -1))
    accepted = server.post("/api/label", **body)

    assert refused.status_code == 503
    assert "labels.db" in refused.json()["error"]["problem"]
    assert counts["labeled"] == LABELED + 1
    assert accepted.status_code == 200
    assert events(half) == [(first["path"], "1"), (second["path"], "2")]


@pytest.mark.parametrize(
    ("setting", "code", "named"),
    [
        ("data.source=data/nothing", 3, "data/nothing"),
        ("label.queue=uncertain", 2, "label.queue"),
        ("project.task=tabular", 2, "project.task"),
    ],
)
def test_what_cannot_be_labeled_is_said(half: Path, setting: str, code: int, named: str) -> None:
    done = run(half, "label", "--no-browser", "--port", "0", "--set", setting)

    assert done.returncode == code
    assert named in done.stderr
    assert "Traceback" not in done.stderr


def test_unknown_classes_are_asked_for(half: Path) -> None:
    (half / "data" / "digits" / "labels.parquet").unlink()

    done = run(half, "label", "--no-browser", "--port", "0")

    assert done.returncode == 2
    assert "data.classes" in done.stderr


def test_damaged_events_name_the_repair(half: Path) -> None:
    (half / ".mlstack").mkdir(exist_ok=True)
    (half / ".mlstack" / "labels.db").write_bytes(b"x" * 5000)

    done = run(half, "label", "--no-browser", "--port", "0")

    assert done.returncode == 3
    assert "mlstack label rebuild" in done.stderr


def test_events_that_cannot_be_written_are_an_error_of_the_machine(half: Path) -> None:
    (half / ".mlstack" / "labels.db").mkdir(parents=True)

    done = run(half, "label", "--no-browser", "--port", "0")

    assert done.returncode == 6
    assert "labels.db" in done.stderr


def test_ctrl_c_says_what_was_saved(serve: Serve) -> None:
    server = serve()
    item = server.get("/api/next").json()["items"][0]
    server.label(item["path"], "1")

    assert server.stop(signal.SIGINT) == 0
    assert "1 answer saved; 21 of 300 images are labeled" in server.out
