"""A trained project is moved, killed and spoiled; everything here shares one training."""

import json
import shutil
import signal
import subprocess
import sys

import pytest
from faulty import failure, kill, mlstack, send
from projects import make_project

pytestmark = pytest.mark.slow

LENIENT = ("--set", "gates.slices=[]", "--set", "gates.validation.test/acc.min=0")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A project with one finished run and one package, in a place that it then leaves."""
    first = make_project(tmp_path_factory.mktemp("trained") / "first")
    assert mlstack(first, "train", "--epochs", "2").returncode == 0
    second = first.with_name("second place é")
    shutil.move(first, second)
    exported = mlstack(second, "export", "--quiet", *LENIENT)
    assert exported.returncode == 0, exported.stderr
    return second


def test_a_run_is_exported_from_the_place_its_project_has_now(trained):
    verified = mlstack(trained, "export", "verify", "--json")

    assert verified.returncode == 0


def test_a_killed_export_leaves_no_half_package_and_the_next_one_cleans_up(trained):
    model = next((trained / "models").iterdir())
    before = sorted(path.name for path in model.iterdir())
    for after_s in (2.0, 4.0):
        kill(trained, after_s, "export", *LENIENT)
        assert mlstack(trained, "export", "verify", "--quiet").returncode == 0
    half = [path.name for path in model.iterdir() if path.name not in before]
    assert [name for name in half if not name.startswith(".") and not name.isdigit()] == []

    done = mlstack(trained, "export", "--quiet", *LENIENT)

    assert done.returncode == 0
    assert not list(model.glob(".*.tmp-*"))
    assert not list((trained / ".mlstack" / "export").glob("*/work-*"))


def test_a_killed_training_goes_on_and_a_stopped_one_says_so(trained):
    runs = trained / ".mlstack" / "runs"
    kill(trained, 1.0, "train", "--epochs", "3")
    for folder in runs.iterdir():
        assert folder.name.startswith(".") or (folder / "run.json").is_file()
    code, said = send(
        trained, signal.SIGTERM, 12.0, "train", "--no-check", "--epochs", "3000", "--json"
    )
    assert (code, json.loads(said)["error"]["code"]) == (143, 143)
    listed = json.loads(mlstack(trained, "train", "ls", "--json").stdout)["runs"]

    resumed = send(trained, signal.SIGINT, 12.0, "train", "--resume", "--json")

    assert listed[0]["state"] == "stopped"
    assert resumed[0] == 130
    again = json.loads(mlstack(trained, "train", "ls", "--json").stdout)["runs"]
    assert again[0]["epoch"] > listed[0]["epoch"]


def test_a_killed_server_leaves_nothing_in_the_way_of_the_next(trained):
    command = [sys.executable, "-m", "mlstack", "serve", "--port", "0"]
    for _ in range(3):
        server = subprocess.Popen(command, cwd=trained, stdout=subprocess.PIPE, text=True)
        assert "serving" in server.stdout.readline()
        server.kill()
        server.communicate()

    status = json.loads(mlstack(trained, "serve", "status", "--json").stdout)
    server = subprocess.Popen(command, cwd=trained, stdout=subprocess.PIPE, text=True)
    said = server.stdout.readline()
    server.terminate()
    server.communicate(timeout=30)

    assert (status["url"], status["ready"]) == (None, False)
    assert "serving" in said


@pytest.mark.parametrize(
    ("file", "spoil"),
    [
        ("model.onnx", lambda content: content[:-100]),
        ("mlstack/manifest.json", lambda content: content[:100]),
        ("mlstack/manifest.json", lambda content: content.replace(b'"v": 1', b'"v": 1, "w": 2', 1)),
    ],
)
def test_a_damaged_package_is_neither_verified_nor_promoted(trained, file, spoil):
    model = next((trained / "models").iterdir())
    package = model / "77"
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(model / "1", package)
    (package / file).write_bytes(spoil((package / file).read_bytes()))
    live = model / "live.json"
    before = live.read_bytes() if live.is_file() else None

    verified = mlstack(trained, "export", "verify", f"{model.name}/77", "--json")
    promoted = mlstack(trained, "serve", "promote", "77", "--json")
    shutil.rmtree(package)

    assert failure(verified)["code"] == 3
    assert failure(promoted)["code"] == 3
    assert (live.read_bytes() if live.is_file() else None) == before


@pytest.mark.parametrize(
    ("old", "new", "code", "words"),
    [
        ("self.lr = lr", "raise RuntimeError('boom')", 1, "my_project/model.py:15: RuntimeError"),
        ('f"{part}/acc": accuracy', "", 2, "train.monitor: the model logs no `val/acc`"),
    ],
)
def test_what_the_users_code_does_wrong_is_named(trained, old, new, code, words):
    model = trained / "my_project" / "model.py"
    before = model.read_text()
    assert old in before
    model.write_text(before.replace(old, new))

    done = mlstack(trained, "train", "--epochs", "1", "--json")
    model.write_text(before)

    error = failure(done)
    assert (done.returncode, words in error["problem"]) == (code, True), error
    assert code == 1 or "it logs " in error["hint"]
