"""What the commands refuse, and how they say it."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import msgspec
import onnx
import pytest
from onnx import TensorProto, helper
from serving import (
    CONFIG,
    NAME,
    end,
    eventually,
    make_choice,
    make_free_graph,
    make_graph,
    make_package,
    mlstack,
    run_of,
    seal,
    start,
)

from mlstack.records.base import read, write
from mlstack.records.package import Golden, Live
from mlstack.records.server import DeviceChoice, ServerSpec
from mlstack.serve import at_once


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "mlstack.yaml").write_text(CONFIG)
    make_package(tmp_path, number=1, seed=1)
    make_package(tmp_path, number=2, seed=2)
    return tmp_path


# Root may write anywhere, unless it gives that up.
READER = (
    ("setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner", "--inh-caps=-all")
    if os.getuid() == 0
    else ()
)


def live(root: Path) -> Live:
    return read(root / "models" / NAME / "live.json", Live)


def test_without_a_package_serve_says_what_to_type(tmp_path: Path) -> None:
    (tmp_path / "mlstack.yaml").write_text(CONFIG)

    ran = mlstack(tmp_path, "serve", "--port", "0")

    assert ran.returncode == 3
    assert "there is no package" in ran.stderr
    assert "mlstack export" in ran.stderr and "mlstack serve --model FOLDER" in ran.stderr


@pytest.mark.parametrize(
    ("closed", "where"), [("models", ""), (".", "in a folder that may be written, ")]
)
def test_packages_that_may_only_be_read_are_served_as_the_hint_says(
    tmp_path: Path, closed: str, where: str
) -> None:
    root, elsewhere = tmp_path / "closed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    package = make_package(root)
    (root / "mlstack.yaml").write_text(CONFIG)
    (root / ".mlstack").mkdir(exist_ok=True)
    subprocess.run(["chmod", "-R", "a-w", root / closed], check=True)

    serve = [*READER, sys.executable, "-m", "mlstack", "serve", "--port", "0"]
    plain = subprocess.run(serve, cwd=root, capture_output=True, text=True, timeout=60)
    with subprocess.Popen(
        [*serve, "--model", package],
        cwd=elsewhere if where else root,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        line = server.stdout.readline()
        server.terminate()

    subprocess.run(["chmod", "-R", "u+w", root], check=True)
    assert plain.returncode == 6, plain.stderr
    assert "may only be read, so no package can be made live there" in plain.stderr
    assert f"hint: {where}type `mlstack serve --model {package}`" in plain.stderr
    assert line.startswith(f"serving {NAME} version 1 on http://127.0.0.1:")


def test_a_taken_port_is_exit_6_and_names_the_option(root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ran = mlstack(root, "serve", "--port", str(taken.getsockname()[1]))

    assert ran.returncode == 6
    assert "address already in use" in ran.stderr
    assert "--port" in ran.stderr


def test_a_gpu_that_is_not_there_is_exit_6_and_says_what_is_missing(root: Path) -> None:
    ran = mlstack(root, "serve", "--port", "0", "--device", "gpu")
    as_json = mlstack(root, "serve", "--port", "0", "--device", "gpu", "--json")

    if ran.returncode == 0:
        pytest.skip("this machine has a GPU")
    assert ran.returncode == as_json.returncode == 6
    assert "ONNX Runtime does not use one" in ran.stderr
    assert "--device cpu" in ran.stderr
    assert ran.stdout == ""
    assert json.loads(as_json.stdout)["error"]["code"] == 6
    assert not (root / ".mlstack" / "serve.json").exists()


def test_the_runtime_is_silent_on_stderr(root: Path) -> None:
    server = start(root)

    server.stop()

    end(server)
    assert (root / "stderr.txt").read_text() == ""


@pytest.mark.parametrize("damage", ["cut", "missing", "extra"])
def test_a_package_that_is_not_whole_is_exit_3(root: Path, damage: str) -> None:
    model = root / "models" / NAME / "2" / "model.onnx"
    if damage == "cut":
        model.write_bytes(model.read_bytes()[:100])
    elif damage == "missing":
        model.unlink()
    else:
        (model.parent / "more.bin").write_bytes(b"x")

    ran = mlstack(root, "serve", "--port", "0")

    assert ran.returncode == 3
    assert "manifest" in ran.stderr or "missing from the package" in ran.stderr
    assert not (root / "models" / NAME / "live.json").exists()


def test_a_package_that_answers_otherwise_than_packed_is_exit_4(root: Path) -> None:
    package = root / "models" / NAME / "2"
    make_graph(package / "model.onnx", seed=99)
    seal(package, NAME, 2)

    ran = mlstack(root, "serve", "--port", "0")

    assert ran.returncode == 4
    assert "golden example" in ran.stderr


def test_a_file_to_predict_that_is_not_there_is_exit_2_with_a_hint(root: Path) -> None:
    ran = mlstack(root, "serve", "predict", "nofile.png")

    assert ran.returncode == 2
    assert "there is no file `nofile.png`" in ran.stderr
    assert "rows of a table (CSV, Parquet, JSONL)" in ran.stderr


def test_ending_a_canary_that_is_not_there_says_so_and_changes_nothing(root: Path) -> None:
    mlstack(root, "serve", "promote", "1")
    before = live(root)

    ran = mlstack(root, "serve", "canary", "--off")

    assert ran.returncode == 0
    assert ran.stdout == f"{NAME}: version 1 is live\nthere is no canary\n"
    assert live(root) == before


def test_promote_and_rollback_swap_live_and_previous(root: Path) -> None:
    first = mlstack(root, "serve", "promote", "1", "--quiet")
    newest = mlstack(root, "serve", "promote")
    after = live(root)
    back = mlstack(root, "serve", "rollback")

    assert first.stdout == "1\n"
    assert "version 2 is live (before: 1)" in newest.stdout
    assert (after.live, after.previous) == (2, 1)
    assert back.returncode == 0
    assert (live(root).live, live(root).previous) == (1, 2)


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (["promote", "9"], 2, "there is no package `9`"),
        (["rollback"], 2, "no package was live before"),
        (["canary", "2", "--percent", "10"], 2, "nothing is live yet"),
        (["canary", "--off"], 2, "nothing is live yet"),
        (["canary"], 2, "which package?"),
        (["canary", "2"], 2, "a canary needs a share"),
        (["predict", "nothing.png"], 2, "there is no file `nothing.png`"),
        (["predict", "models"], 2, "`models` is a folder"),
        (["predict", "mlstack.yaml"], 3, "not an image"),
        (["predict", "mlstack.yaml", "--url", "http://127.0.0.1:9"], 75, "does not answer"),
        (["predict", "mlstack.yaml", "--url", "nowhere"], 2, "is no URL"),
        (["--port", "0", "--model", "nothing.onnx"], 2, "there is no `nothing.onnx`"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_code(
    root: Path, arguments: list[str], code: int, problem: str
) -> None:
    ran = mlstack(root, "serve", *arguments)

    assert ran.returncode == code, ran.stderr
    assert problem in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("name", "number", "said"),
    [(NAME, 1, f"package 1 of `{NAME}`"), ("cats", 3, "package 3 of `cats`")],
)
def test_a_package_that_was_copied_there_by_hand_is_not_served_as_another(
    root: Path, tmp_path_factory: pytest.TempPathFactory, name: str, number: int, said: str
) -> None:
    strange = make_package(tmp_path_factory.mktemp("other"), name=name, number=number)
    server = start(root)
    shutil.copytree(strange, root / "models" / NAME / "3")

    refused = [
        mlstack(root, "serve", *how)
        for how in (["promote"], ["canary", "3", "--percent", "5"], ["shadow", "3"])
    ]
    status = mlstack(root, "serve", "status")
    edited = live(root)
    write(root / "models" / NAME / "live.json", msgspec.structs.replace(edited, live=3))
    eventually(lambda: "the old model goes on" in (root / "stderr.txt").read_text())
    answers = httpx.get(f"{server.url}/health/ready").json()["version"]
    end(server)

    assert [ran.returncode for ran in refused] == [3, 3, 3]
    assert all(f"/3` holds {said}" in ran.stderr for ran in refused)
    assert "copied there" in status.stdout
    assert answers == 2


def test_packages_stay_with_a_model_that_was_renamed(root: Path) -> None:
    (root / "models" / NAME).rename(root / "models" / "other")
    (root / "mlstack.yaml").write_text(CONFIG.replace(NAME, "other"))
    for number in (1, 2):
        (root / ".mlstack" / "runs" / run_of(number)).mkdir(parents=True)

    ran = mlstack(root, "serve", "promote", "1")

    assert ran.returncode == 0, ran.stderr


def test_a_damaged_live_file_is_exit_3(root: Path) -> None:
    (root / "models" / NAME / "live.json").write_text('{"kind": "model.live", "li')

    ran = mlstack(root, "serve", "status")

    assert ran.returncode == 3
    assert "live.json" in ran.stderr
    assert "remove it, then type `mlstack serve promote NUMBER`" in ran.stderr


def test_status_without_a_server_shows_the_packages(root: Path) -> None:
    mlstack(root, "serve", "promote", "1")

    ran = mlstack(root, "serve", "status")

    assert "no server runs" in ran.stdout
    assert "live" in ran.stdout


def test_a_bare_onnx_file_is_served_as_tensors(root: Path, tmp_path: Path) -> None:
    make_graph(tmp_path / "alone.onnx", seed=5)
    server = start(root, "--model", "alone.onnx")

    zeros = {"inputs": [[[[0]] * 16] * 16]}
    tensors = httpx.post(f"{server.url}/predict", json=zeros).json()
    image = httpx.post(f"{server.url}/predict", content=b"\x89PNG")

    end(server)
    assert tensors["predictions"][0]["outputs"]["probabilities"] == pytest.approx([0.1] * 10)
    assert image.status_code == 415
    assert not (root / "models" / NAME / "live.json").exists()


def test_a_bare_onnx_file_whose_weights_lie_elsewhere_is_not_opened(root: Path) -> None:
    make_graph(root / "foreign.onnx", seed=5)
    model = onnx.load(root / "foreign.onnx")
    onnx.save(model, root / "foreign.onnx", save_as_external_data=True, size_threshold=0)

    ran = mlstack(root, "serve", "--port", "0", "--model", "foreign.onnx")

    assert ran.returncode == 3
    assert "keeps weights in other files" in ran.stderr


def write_product(path: Path, shape: list[int | str], *, total: bool = False) -> None:
    """Write FP32 `rows` times `factor`, of that shape; or the sum of all that."""
    nodes = [helper.make_node("Mul", ["rows", "factor"], ["product"])]
    nodes += [helper.make_node("ReduceSum", ["product"], ["sum"], keepdims=0)] if total else []
    name = "sum" if total else "product"
    of = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "product",
        [
            helper.make_tensor_value_info("rows", of, ["n", 2]),
            helper.make_tensor_value_info("factor", of, shape),
        ],
        [helper.make_tensor_value_info(name, of, [] if total else ["n", 2])],
    )
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)


def test_a_graph_that_takes_one_row_is_served_one_row_a_call(root: Path) -> None:
    write_product(root / "one.onnx", [1, 2])
    server = start(root, "--model", "one.onnx")

    def ask(place: int) -> httpx.Response:
        given = {"rows": [[place, 1]], "factor": [[2, 3]]}
        return httpx.post(f"{server.url}/predict", json={"inputs": given}, timeout=30)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(40)))
    twice = httpx.post(
        f"{server.url}/predict", json={"inputs": {"rows": [[1, 1]] * 2, "factor": [[2, 3]] * 2}}
    )

    end(server)
    got = [answer.json()["predictions"][0]["outputs"]["product"] for answer in answers]
    assert got == [[2 * place, 3] for place in range(40)]
    assert twice.status_code == 400


@pytest.mark.parametrize(
    ("shape", "total", "named"),
    [
        ([], False, "`factor` has the shape []"),
        ([4, 2], False, "`factor` has the shape [4, 2]"),
        (["n", 2], True, "a tensor of shape [] for a call of 1 rows"),
    ],
)
def test_a_graph_whose_calls_cannot_be_shared_is_refused_with_the_reason(
    root: Path, shape: list[int | str], total: bool, named: str
) -> None:
    write_product(root / "odd.onnx", shape, total=total)

    ran = mlstack(root, "serve", "--port", "0", "--model", "odd.onnx")

    assert ran.returncode == 3
    assert named in ran.stderr
    assert "the batch's" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_sizes_that_only_the_graph_knows_are_refused_with_400(root: Path) -> None:
    make_free_graph(root / "free.onnx")
    server = start(root, "--model", "free.onnx")

    good = httpx.post(f"{server.url}/predict", json={"inputs": [[1, 2, 3, 4], [0, 0, 0, 1]]})
    bad = httpx.post(f"{server.url}/predict", json={"inputs": [[1, 2, 3]]})

    end(server)
    assert [one["outputs"]["sums"] for one in good.json()["predictions"]] == [[10, 10], [1, 1]]
    assert bad.status_code == 400
    assert bad.json()["field"] == "inputs"


def test_numbers_that_only_the_graph_understands_are_refused_with_400(root: Path) -> None:
    make_choice(root / "choice.onnx")
    server = start(root, "--model", "choice.onnx")

    def ask(place: int) -> httpx.Response:
        return httpx.post(f"{server.url}/predict", json={"inputs": [place]}, timeout=30)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, [*range(10)] * 10))

    end(server)
    for place, answer in zip([*range(10)] * 10, answers, strict=True):
        if place < 5:
            row = answer.json()["predictions"][0]["outputs"]["row"]
            assert row == [2 * place, 2 * place + 1]
        else:
            assert answer.status_code == 400
            assert "out of data bounds" in answer.json()["error"]


def test_what_was_promoted_and_the_address_are_told(root: Path) -> None:
    ran = subprocess.Popen(
        [sys.executable, "-m", "mlstack", "serve", "--port", "0"],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    line = ran.stdout.readline()
    ran.send_signal(signal.SIGINT)
    rest, said = ran.communicate(timeout=30)

    assert re.fullmatch(
        rf"serving {NAME} version 2 on http://127\.0\.0\.1:\d+ "
        r"\(CPUExecutionProvider\); Ctrl-C stops\n",
        line,
    )
    assert rest == ""
    assert said == f"no package of {NAME} was live yet: promoted the newest, 2\n"


def test_a_chosen_package_is_served_whatever_is_live(root: Path) -> None:
    mlstack(root, "serve", "promote", "2")
    server = start(root, "--model", f"models/{NAME}/1")

    status = mlstack(root, "serve", "status").stdout
    promoted = mlstack(root, "serve", "promote", "1").stdout
    version = httpx.get(f"{server.url}/health/ready").json()["version"]

    end(server)
    assert version == 1
    assert "as `--model` says" in status
    assert f"version 1 is live (before: 2)\nthe server at {server.url} goes on with" in promoted
    assert f"models/{NAME}/1, which `--model` named" in promoted


def test_golden_examples_are_optional(root: Path) -> None:
    package = root / "models" / NAME / "2"
    write(package / "mlstack" / "golden.json", Golden(tolerance=0, examples=[]))
    seal(package, NAME, 2)

    server = start(root)

    assert server.stop() == 0
    end(server)


@pytest.mark.parametrize(("package", "device"), [(2, "cpu"), (1, "auto")])
def test_auto_takes_the_device_that_bench_found_faster_for_this_package(
    root: Path, package: int, device: str
) -> None:
    mlstack(root, "serve", "promote", "2")
    choice = DeviceChoice(package=package, device="cpu", rows_per_s={"cpu": 2.0, "gpu": 1.0})
    write(root / ".mlstack" / "serve-device.json", choice)

    server = start(root)
    spec = read(root / ".mlstack" / "serve.json", ServerSpec)

    end(server)
    assert spec.device == device


PLAIN = ("serve", "--port", "0", "--json")


def test_the_server_starts_at_once_when_its_settings_were_checked(root: Path) -> None:
    end(start(root))  # checks them

    server = start(root)
    try:
        loaded = Path(f"/proc/{server.process.pid}/maps").read_text()
        command = Path(f"/proc/{server.process.pid}/cmdline").read_bytes().split(b"\0")
        answer = httpx.get(server.url + "/health/ready").json()
        ran = mlstack(root, "serve", "status", "--json")
    finally:
        end(server)

    assert b"serve" in command and b"mlstack.serve.worker" not in command  # no second process
    assert "pydantic_core" not in loaded
    assert answer["version"] == 2
    assert json.loads(ran.stdout)["url"] == server.url


@pytest.mark.parametrize(
    ("change", "words", "problem"),
    [
        (lambda text: text.replace("serve:", "serve:\n  prot: 1"), PLAIN, "prot"),
        (lambda text: text, (*PLAIN, "--prot", "1"), "--prot"),
        (lambda text: text, ("serve", "--port", "70000"), "--port"),
        (lambda text: text, ("serve", "--port", "\u0663"), "--port"),
        (lambda text: text, ("serve", "--port"), "--port"),
        (lambda text: text, ("serve", "--port", "1" * 5000), "--port"),
        (lambda text: text, ("serve", "--device", "tpu"), "tpu"),
        (lambda text: text, ("serve", "--host", "no.such.host.invalid"), "no.such.host.invalid"),
    ],
)
def test_a_server_that_could_start_at_once_refuses_what_any_other_would(
    root: Path, change: Callable[[str], str], words: tuple[str, ...], problem: str
) -> None:
    file = root / "mlstack.yaml"
    file.write_text(file.read_text() + "serve:\n  port: 0\n")
    end(start(root))

    file.write_text(change(file.read_text()))
    ran = mlstack(root, *words)

    assert ran.returncode == 2
    assert problem in ran.stderr + ran.stdout


def test_what_is_said_in_the_environment_counts_at_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end(start(root))

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        monkeypatch.setenv("MLSTACK_SERVE__PORT", port)
        ran = mlstack(root, "serve")

    assert ran.returncode == 6
    assert port in ran.stderr


def test_a_file_that_cannot_be_read_at_once_is_said_as_any_other(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> None:
        raise PermissionError

    monkeypatch.chdir(root)
    monkeypatch.setattr(at_once.known, "checked", fail)

    assert at_once.find(["serve"]) is None  # left to the command line
