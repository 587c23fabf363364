"""A package that the readers let through and ONNX Runtime does not survive ends no server."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
from fatal_graphs import add, fatal, fatal_for_two
from onnx import helper
from serving import (
    CONFIG,
    NAME,
    Server,
    end,
    eventually,
    make_graph,
    make_image,
    make_package,
    mlstack,
    seal,
    start,
)

from mlstack.errors import GateError
from mlstack.records import proven
from mlstack.records.layout import Layout
from mlstack.records.package import MODEL, Signature
from mlstack.serve import proof
from mlstack.serve.worker.lookup import DataError, open_lookup

Spoil = Callable[[onnx.ModelProto], None]
LOG = Path(".mlstack/serve-worker.log")  # is made by whoever starts a worker


def greedy(model: onnx.ModelProto) -> None:
    """Ask for 32 GiB."""
    add(
        model,
        helper.make_node("ConstantOfShape", ["huge"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["more"], keepdims=0),
        huge=np.array([1 << 18, 1 << 15], np.int64),
    )


def endless(model: onnx.ModelProto) -> None:
    """Go round for some thousand years."""
    numbers = [
        helper.make_tensor_value_info(name, kind, [])
        for name, kind in (("turn", 7), ("go", 9), ("sum", 1), ("still", 9), ("total", 1))
    ]
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["still"]),
            helper.make_node("Add", ["sum", "sum"], ["total"]),
        ],
        "body",
        numbers[:3],
        numbers[3:],
    )
    add(
        model,
        helper.make_node("Loop", ["turns", "", "nothing"], ["more"], body=body),
        turns=np.array(2**62, np.int64),
        nothing=np.array(0, np.float32),
    )


def change(graph: Path, spoil: Spoil) -> None:
    """Change a graph where it lies."""
    model = onnx.load(graph)
    spoil(model)
    graph.write_bytes(model.SerializeToString())


def plant(package: Path, spoil: Spoil) -> Path:
    """Change a graph and make the manifest true again, as an attacker would."""
    change(package / MODEL, spoil)
    seal(package, NAME, int(package.name))
    return package


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose package 1 is live and whose package 2 is fatal."""
    root = tmp_path_factory.mktemp("project")
    (root / "mlstack.yaml").write_text(CONFIG + "serve: {model_control: explicit}\n")
    make_package(root, number=1, seed=1)
    plant(make_package(root, number=2, seed=2), fatal)
    assert mlstack(root, "serve", "promote", "1").returncode == 0
    return root


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Server]:
    running = start(home)
    yield running
    end(running)


@pytest.fixture
def live(home: Path) -> Iterator[Path]:
    """The file that says what is live; it is as before when the test is over."""
    path = home / "models" / NAME / "live.json"
    before = path.read_bytes()
    yield path
    path.write_bytes(before)


@pytest.fixture
def copy(home: Path, tmp_path: Path) -> Path:
    """A copy of that project."""
    return shutil.copytree(home, tmp_path / "copy", ignore=shutil.ignore_patterns("serve*"))


def answers(server: Server) -> int:
    assert server.process.poll() is None
    image = make_image(server.project / "one.png", 7)
    return httpx.post(f"{server.url}/predict", content=image).json()["version"]


def failed(server: Server) -> float:
    return server.metrics().get('mlstack_reload_total{result="failed"}', 0)


@pytest.mark.parametrize(
    "words", [("promote", "2"), ("canary", "2", "--percent", "10"), ("shadow", "2")]
)
def test_a_command_refuses_it_before_anything_is_changed(
    server: Server, live: Path, words: tuple[str, ...]
) -> None:
    before = live.read_bytes()

    done = mlstack(server.project, "serve", *words)

    assert done.returncode == 4, done.stderr
    assert f"models/{NAME}/2` is refused: the process that opened it was ended by SIGFPE" in (
        done.stderr
    )
    assert "hint: package 1 stays live" in done.stderr
    assert live.read_bytes() == before
    assert answers(server) == 1


@pytest.mark.parametrize("role", ["live", "canary", "shadow"])
def test_a_server_survives_a_live_json_that_somebody_has_changed(
    server: Server, live: Path, role: str
) -> None:
    before = failed(server)
    content = json.loads(live.read_bytes())
    shares = {} if role == "live" else {f"{role}_percent": 50.0}

    live.write_text(json.dumps(content | {role: 2} | shares))
    eventually(lambda: failed(server) > before)

    assert answers(server) == 1
    assert "ended by SIGFPE" in (server.project / "stderr.txt").read_text()


def test_a_request_to_load_it_is_a_400(server: Server, live: Path) -> None:
    live.write_text(live.read_text().replace('"live": 1', '"live": 2'))

    refused = httpx.post(f"{server.url}/v2/repository/models/{NAME}/load", timeout=30)

    assert refused.status_code == 400
    assert "ended by SIGFPE" in refused.json()["error"]
    assert answers(server) == 1


def test_a_server_does_not_start_with_it_and_says_what_to_type(copy: Path) -> None:
    live = copy / "models" / NAME / "live.json"
    content = json.loads(live.read_text())
    live.write_text(json.dumps(content | {"live": 2}))
    first = mlstack(copy, "serve", "--port", "0")
    live.write_text(json.dumps(content | {"live": 2, "previous": 1}))
    second = mlstack(copy, "serve", "--port", "0")
    predicted = mlstack(copy, "serve", "predict", "mlstack.yaml")
    live.unlink()
    third = mlstack(copy, "serve", "--port", "0")

    assert (first.returncode, second.returncode, third.returncode) == (4, 4, 4)
    assert predicted.returncode == 4
    assert "hint: type `mlstack serve promote 1`" in first.stderr
    assert "hint: type `mlstack serve rollback`: package 1 was live before" in second.stderr
    assert "hint: type `mlstack serve promote 1`" in third.stderr
    assert not live.exists()


def test_a_single_file_that_is_fatal_is_not_served(tmp_path: Path) -> None:
    (tmp_path / "mlstack.yaml").write_text(CONFIG)
    make_graph(tmp_path / "plain.onnx", 1)
    change(shutil.copy(tmp_path / "plain.onnx", tmp_path / "fatal.onnx"), fatal)

    refused = mlstack(tmp_path, "serve", "--port", "0", "--model", "fatal.onnx")
    end(start(tmp_path, "--model", "plain.onnx"))

    assert refused.returncode == 4, refused.stderr
    assert "ended by SIGFPE" in refused.stderr
    assert proven.is_proven(Layout(tmp_path).proven, tmp_path / "plain.onnx")


def test_a_live_json_that_names_no_package_says_what_to_type(copy: Path) -> None:
    live = copy / "models" / NAME / "live.json"
    live.write_text(live.read_text().replace('"live": 1', '"live": 7'))

    for words in (("serve", "--port", "0"), ("serve", "predict", "mlstack.yaml")):
        done = mlstack(copy, *words)

        assert done.returncode == 3, done.stderr
        assert "names package 7, which is not there" in done.stderr
        assert "hint: type `mlstack serve promote" in done.stderr


def test_a_package_is_opened_by_another_process_only_once(tmp_path: Path) -> None:
    (tmp_path / "mlstack.yaml").write_text(CONFIG)
    package = make_package(tmp_path)
    end(start(tmp_path))
    known = (tmp_path / LOG).exists()
    shutil.rmtree(Layout(tmp_path).proven)

    proof.check(tmp_path, package)
    asked = (tmp_path / LOG).exists()
    (tmp_path / LOG).unlink()
    proof.check(tmp_path, package)

    assert (known, asked) == (False, True)
    assert proven.is_proven(Layout(tmp_path).proven, package)
    assert not (tmp_path / LOG).exists()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (fatal_for_two, "the process that opened it was ended by SIGFPE"),
        (greedy, "is refused: .*[Ff]ailed to allocate memory"),
        (endless, "it was not opened and answered within 4 s"),
    ],
)
def test_one_that_takes_all_memory_or_all_time_or_no_second_row_is_refused(
    tmp_path: Path, spoil: Spoil, words: str
) -> None:
    package = plant(make_package(tmp_path), spoil)

    with pytest.raises(GateError, match=words) as caught:
        proof.check(tmp_path, package, limit_s=4)

    assert caught.value.hint == "type `mlstack export`: there is no other package"
    assert not proven.is_proven(Layout(tmp_path).proven, package)


@pytest.mark.parametrize("role", ["live", "canary"])
def test_a_server_that_is_stopped_does_not_wait_for_a_proof(tmp_path: Path, role: str) -> None:
    (tmp_path / "mlstack.yaml").write_text(CONFIG)
    make_package(tmp_path, number=1)
    plant(make_package(tmp_path, number=2, seed=2), endless)
    mlstack(tmp_path, "serve", "promote", "1")
    server = start(tmp_path)
    live = tmp_path / "models" / NAME / "live.json"
    content = json.loads(live.read_text())

    live.write_text(json.dumps(content | {role: 2, "canary_percent": 5.0}))
    eventually((tmp_path / LOG).exists)
    code = server.stop()

    end(server)
    assert code == 0
    assert not proven.is_proven(Layout(tmp_path).proven, tmp_path / "models" / NAME / "2")


def test_what_has_changed_is_not_proven_and_what_is_gone_is_forgotten(tmp_path: Path) -> None:
    folder = Layout(tmp_path).proven
    first, second = make_package(tmp_path), make_package(tmp_path, number=2)
    (folder / "torn.json").write_text("{")
    assert len(list(folder.iterdir())) == 3

    shutil.rmtree(first)
    seal(second, NAME, 3)
    was_proven = proven.is_proven(folder, second)
    proven.keep(folder, second)

    assert not was_proven
    assert not proven.is_proven(folder, first)
    kept = [json.loads(path.read_text())["package"] for path in folder.iterdir()]
    assert kept == [f"models/{NAME}/2"] * 2


@pytest.mark.parametrize(
    "change",
    [
        {"folder": "/etc"},
        {"folder": "data/../.."},
        {"files": ["visits.parquet", "/etc/passwd"]},
        {"files": ["../../secret.parquet"]},
        {"files": "visits.parquet"},
        {"key": None},
    ],
)
def test_features_outside_of_the_project_are_not_opened(
    tmp_path: Path, change: dict[str, object]
) -> None:
    given = {"folder": "data/shop", "key": "who", "time": "at", "files": ["visits.parquet"]}
    signature = Signature(
        task="tabular",
        inputs=[],
        outputs=[],
        classes=[],
        preprocess={"kind": "table", "features": given | change},
    )

    with pytest.raises(DataError, match=r"outside of the project|cannot be read"):
        open_lookup(tmp_path, signature)
