"""Copies of runs in other trackers, read back with the trackers' own means."""

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest
from mlflow_server import serving
from msgspec import structs
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata
from tensorboard.util import tensor_util
from train.test_train_runs import make_run
from wandb.proto import wandb_internal_pb2

from mlstack.launch import mirrors
from mlstack.launch.mirrors import Behind, behind, following
from mlstack.records import base
from mlstack.records.mirror import is_behind, last_state, state_file
from mlstack.records.run import (
    SPEC,
    EpochEnded,
    Finished,
    RunSpec,
    Started,
    Stepped,
    Stopped,
    append_event,
    read_events,
)
from mlstack.records.system import Speed, append_system

pytestmark = pytest.mark.filterwarnings("ignore")

NAMES = ("tensorboard", "mlflow", "wandb")
LR = "model.args.lr"
BLOCK = 32768  # of the log that wandb writes


@dataclass
class Seen:
    """What a tracker has of a run."""

    entries: int
    params: dict[str, str] = field(default_factory=dict)
    tags: str = ""
    points: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    state: str = ""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("mlflow")) as address:
        yield address


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, project_maker) -> Path:
    """A project; each test makes runs of its own in it."""
    return project_maker(tmp_path_factory.mktemp("mirrors") / "demo", images=120)


@pytest.fixture(scope="module")
def planned(home: Path) -> RunSpec:
    return make_run(home, finished=False, epochs=2)


@pytest.fixture(scope="module")
def lay_out(home: Path, planned: RunSpec) -> Callable[..., tuple[Path, RunSpec]]:
    """Give a function that lays out a run of two epochs, with what one of them says of itself."""

    def run(*, finished: bool = True) -> tuple[Path, RunSpec]:
        runs = home / ".mlstack" / "runs"
        spec = structs.replace(planned, id=f"{planned.id}-{os.urandom(3).hex()}")
        folder = runs / spec.id
        shutil.copytree(runs / planned.id, folder)
        base.write(folder / SPEC, spec)
        speed = Speed(run=spec.id, at=1.0, epoch=2, step=10, examples_per_s=50.0, loader_wait=0.5)
        append_system(folder, speed)
        if finished:
            tested = {"test/acc": 0.625}
            end = Finished(run=spec.id, at=time.time(), step=15, epoch=2, metrics=tested)
            append_event(folder, end)
        return folder, spec

    return run


def stepped(spec: RunSpec, step: int, loss: float) -> Stepped:
    return Stepped(
        run=spec.id, at=time.time(), epoch=1, step=step, batch=1, batches=9, metrics={"loss": loss}
    )


def copy(folder: Path, address: str, name: str) -> subprocess.CompletedProcess[str]:
    """Type `mlstack train mirror RUN`."""
    words = ["train", "mirror", folder.name, "--set", f"track.mirror=[{name}]"]
    return subprocess.run(
        [sys.executable, "-m", "mlstack", *words],
        cwd=folder.parents[2],
        env=os.environ | {"MLFLOW_TRACKING_URI": address},
        capture_output=True,
        text=True,
    )


def mirror_all(project: Path) -> str:
    """Type `mlstack train mirror`; give what it says."""
    words = ["train", "mirror", "--set", "track.mirror=[tensorboard]"]
    done = subprocess.run(
        [sys.executable, "-m", "mlstack", *words], cwd=project, capture_output=True, text=True
    )
    return done.stdout


def see(folder: Path, address: str, name: str) -> Seen:
    """Read back what a tracker has of a run."""
    if name == "mlflow":
        return see_mlflow(folder, address)
    return (see_tensorboard if name == "tensorboard" else see_wandb)(folder)


def see_mlflow(folder: Path, address: str) -> Seen:
    def ask(what: str, **params: object) -> dict:
        url = f"{address}/api/2.0/mlflow/{what}"
        search = what.endswith("search")
        return (httpx.post(url, json=params) if search else httpx.get(url, params=params)).json()

    experiments = ask("experiments/search", max_results=10)["experiments"]
    wanted = f"tags.`mlstack.run` = '{folder.name}'"
    ids = [one["experiment_id"] for one in experiments]
    runs = ask("runs/search", experiment_ids=ids, filter=wanted).get("runs", [])
    if not runs:
        return Seen(0)
    data, info = runs[0]["data"], runs[0]["info"]
    names = [one["key"] for one in data["metrics"]]
    points = {}
    for name in names:
        found = ask("metrics/get-history", run_id=info["run_id"], metric_key=name)["metrics"]
        points[name] = [(int(one["step"]), one["value"]) for one in found]
    params = {one["key"]: one["value"] for one in data["params"]}
    return Seen(len(runs), params, json.dumps(data["tags"]), points, info["status"])


def see_tensorboard(folder: Path) -> Seen:
    place = folder.parents[1] / "tensorboard" / folder.name
    files = list(place.glob("events.out.tfevents.*"))
    if not files:
        return Seen(0)
    read = EventAccumulator(str(place), size_guidance={"scalars": 0})
    read.Reload()
    points = {
        name: [(one.step, one.value) for one in read.Scalars(name)]
        for name in read.Tags()["scalars"]
    }
    about = read.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    start = metadata.parse_session_start_info_plugin_data(about)
    params = {
        name: str(getattr(value, value.WhichOneof("kind"))) for name, value in start.hparams.items()
    }
    (text,) = tensor_util.make_ndarray(read.Tensors("mlstack")[0].tensor_proto)
    ended = metadata.SESSION_END_INFO_TAG in read.summary_metadata
    return Seen(len(files), params, text.decode(), points, "FINISHED" if ended else "RUNNING")


def see_wandb(folder: Path) -> Seen:
    files = list((folder.parents[1] / "wandb").glob(f"offline-run-*-{folder.name}/*.wandb"))
    seen = Seen(len(files), state="RUNNING")
    for record in wandb_records(files[0].read_bytes()) if files else ():
        if record.WhichOneof("record_type") == "run":
            config = {one.key: json.loads(one.value_json) for one in record.run.config.update}
            seen.params[LR] = str(config["model"]["args"]["lr"])
            seen.tags = json.dumps(config["mlstack"])
        elif record.WhichOneof("record_type") == "history":
            row = {
                one.key or "/".join(one.nested_key): json.loads(one.value_json)
                for one in record.history.item
            }
            del row["_runtime"]  # of the copy, not of the run
            for name, value in row.items():
                seen.points.setdefault(name, []).append((row["_step"], value))
        elif record.WhichOneof("record_type") == "exit":
            seen.state = "FINISHED" if record.exit.exit_code == 0 else "FAILED"
    return seen


def wandb_records(content: bytes) -> Iterator[wandb_internal_pb2.Record]:
    """Read the log of an offline run: LevelDB's format behind a header of seven bytes."""
    at, parts = 7, b""
    while at + 7 <= len(content):
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK
            continue
        _, size, kind = struct.unpack("<IHB", content[at : at + 7])
        parts += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield wandb_internal_pb2.Record.FromString(parts)
            parts = b""


@pytest.fixture(scope="module", params=NAMES)
def copied(request, lay_out, address) -> tuple[str, Path, RunSpec, str]:
    """A mirror, a run that was copied into it, and what the command said."""
    folder, spec = lay_out()
    done = copy(folder, address, request.param)
    assert done.returncode == 0, done.stderr
    return request.param, folder, spec, done.stdout


def test_a_copy_has_the_settings_where_it_comes_from_and_every_point(copied, address):
    name, folder, spec, said = copied

    seen = see(folder, address, name)

    assert seen.entries == 1
    assert float(seen.params[LR]) == 0.003
    assert spec.dataset.md5 in seen.tags and spec.code.commit in seen.tags
    assert seen.points["val/loss"] == [(5, 2.5), (10, 1.25)]
    assert seen.points["system/loader_wait"] == [(10, 0.5)]
    assert seen.points["test/acc"] == [(15, 0.625)]
    assert seen.state == "FINISHED"
    assert last_state(folder, name).where in said


LONG = "val/" + "confusion_of_" * 30  # 394 letters; MLflow takes 250


def test_names_that_are_too_long_for_mlflow_are_cut_and_stay_apart(lay_out, address):
    folder, spec = lay_out()
    metrics = {f"{LONG}{end}": float(end) for end in (1, 2)}
    append_event(
        folder,
        EpochEnded(run=spec.id, at=3.0, epoch=3, epochs=3, step=15, metrics=metrics, best=False),
    )

    done = copy(folder, address, "mlflow")

    assert done.returncode == 0, done.stderr
    points = see(folder, address, "mlflow").points
    cut = {name: values for name, values in points.items() if "confusion_of_" in name}
    assert sorted(cut.values()) == [[(15, 1.0)], [(15, 2.0)]]
    assert all(len(name) <= 250 and name[-1] in "12" for name in cut)


def test_a_second_copy_changes_nothing(copied, address):
    name, folder, _, _ = copied
    before = see(folder, address, name)

    state_file(folder, name).unlink()  # as if it had been killed before it could say so
    copy(folder, address, name)

    assert see(folder, address, name) == before


def test_runs_that_are_behind_are_copied_and_no_others_unless_they_are_named(lay_out, address):
    behind_one, copied_one = lay_out()[0], lay_out()[0]
    copy(copied_one, address, "tensorboard")
    first = last_state(copied_one, "tensorboard")

    both = mirror_all(copied_one.parents[2])
    none = mirror_all(copied_one.parents[2])
    shutil.rmtree(copied_one.parents[1] / "tensorboard" / copied_one.name)
    copy(copied_one, address, "tensorboard")

    assert behind_one.name in both and copied_one.name not in both
    assert "have every run already" in none
    assert last_state(copied_one, "tensorboard").at > first.at
    assert see_tensorboard(copied_one).entries == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_is_one_entry_and_has_no_step_twice(lay_out, address, name):
    folder, spec = lay_out(finished=False)
    for step in (11, 12, 13):
        append_event(folder, stepped(spec, step, 1 / step))
    append_event(folder, Stopped(run=spec.id, at=time.time(), step=12, reason="SIGTERM"))
    copy(folder, address, name)
    again = Started(run=spec.id, at=time.time(), attempt=2, step=11)
    for event in (again, *(stepped(spec, step, 1 / step) for step in (12, 13, 14))):
        append_event(folder, event)
    append_event(folder, Finished(run=spec.id, at=time.time(), step=14, epoch=2, metrics={}))

    done = copy(folder, address, name)
    seen = see(folder, address, name)

    assert done.returncode == 0, done.stderr
    assert seen.entries == 1
    assert [step for step, _ in seen.points["loss"]] == [11, 12, 13, 14]
    assert seen.state == "FINISHED"


def test_a_copy_that_goes_along_with_a_resume_has_no_step_twice(lay_out):
    name = "tensorboard"
    folder, spec = lay_out(finished=False)
    for step in (11, 12, 13):
        append_event(folder, stepped(spec, step, 1 / step))

    with following(folder, {name: ""}):  # before the ranks say where they go on from
        wait_for(lambda: last_state(folder, name))
        append_event(folder, Started(run=spec.id, at=time.time(), attempt=2, step=11))
        for step in (12, 13, 14):
            append_event(folder, stepped(spec, step, 1 / step))

    seen = see(folder, "", name)
    assert seen.entries == 1
    assert [step for step, _ in seen.points["loss"]] == [11, 12, 13, 14]


def test_points_are_there_while_the_run_goes_on(lay_out):
    folder, spec = lay_out(finished=False)

    with following(folder, {"tensorboard": ""}):
        wait_for(lambda: see_tensorboard_points(folder) == [5, 10])
        append_event(folder, epoch_ended(spec, 15))
        wait_for(lambda: see_tensorboard_points(folder) == [5, 10, 15])
        append_event(folder, epoch_ended(spec, 20))  # said just before the end

    assert see_tensorboard_points(folder) == [5, 10, 15, 20]
    assert list(behind(folder, ["tensorboard"])) == []
    assert mirrors_of(folder) == []


def test_a_server_that_is_down_is_told_and_caught_up_with(lay_out, address, monkeypatch):
    folder, _ = lay_out()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")

    with following(folder, {"mlflow": ""}):
        wait_for(lambda: last_state(folder, "mlflow"))
        began = time.monotonic()
    seconds = time.monotonic() - began
    (late,) = behind(folder, ["mlflow"])
    still = copy(folder, "http://127.0.0.1:9", "mlflow")
    done = copy(folder, address, "mlflow")

    assert seconds < 3
    assert "does not answer" in late.problem and f"train mirror {folder.name}" in late.hint
    assert still.returncode == 75
    assert done.returncode == 0, done.stderr
    assert see_mlflow(folder, address).entries == 1
    assert not is_behind(folder, "mlflow")


def test_a_server_that_never_answers_is_cut_off(lay_out, monkeypatch):
    folder, _ = lay_out()
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{mute.getsockname()[1]}")
        with following(folder, {"mlflow": ""}):
            began = time.monotonic()
        seconds = time.monotonic() - began

    (late,) = behind(folder, ["mlflow"])
    assert seconds < mirrors.LEAVE_S + 2
    assert isinstance(late, Behind)
    assert mirrors_of(folder) == []


def test_a_mirror_that_is_killed_fails_no_run_and_is_told(lay_out):
    folder, _ = lay_out()

    with following(folder, {"tensorboard": ""}):
        wait_for(lambda: mirrors_of(folder))
        for process in mirrors_of(folder):
            process.kill()

    (late,) = behind(folder, ["tensorboard"])
    assert late.mirror == "tensorboard"
    assert copy(folder, "", "tensorboard").returncode == 0
    assert list(behind(folder, ["tensorboard"])) == []


def test_no_copying_process_outlives_a_command_that_is_killed(lay_out):
    folder, _ = lay_out(finished=False)
    script = (
        "import sys, time; from pathlib import Path; from mlstack.launch.mirrors import following\n"
        "with following(Path(sys.argv[1]), {'wandb': ''}): time.sleep(60)"
    )
    command = subprocess.Popen([sys.executable, "-c", script, str(folder)])
    wait_for(lambda: last_state(folder, "wandb"))  # wandb has started a process of its own by then
    started = [one for mirror in mirrors_of(folder) for one in family(mirror)]

    command.kill()
    command.wait()

    assert len(started) > 1
    wait_for(lambda: not any(one.is_running() and one.status() != "zombie" for one in started))


def test_a_package_that_is_missing_is_told_and_starts_nothing(lay_out, monkeypatch):
    folder, _ = lay_out()
    monkeypatch.setitem(sys.modules, "wandb", None)  # Python's own way to say: not there

    with following(folder, {"wandb": ""}):
        started = mirrors_of(folder)

    (late,) = behind(folder, ["wandb"])
    assert started == []
    assert "needs `wandb`, which is not installed" in late.problem


def test_mlflow_without_an_address_says_which_variable_to_set(lay_out):
    folder, _ = lay_out()

    done = copy(folder, "", "mlflow")

    assert done.returncode == 2
    assert "export MLFLOW_TRACKING_URI=" in done.stderr


def test_a_password_in_the_address_is_kept_nowhere(lay_out, address):
    folder, _ = lay_out()

    done = copy(folder, address.replace("//", "//somebody:secret@"), "mlflow")

    kept = [file.read_text(errors="replace") for file in folder.rglob("*") if file.is_file()]
    assert done.returncode == 0, done.stderr
    assert "secret" not in done.stdout + done.stderr + "".join(kept)


def test_runs_of_a_search_are_caught_up_with_and_trouble_is_told(lay_out, monkeypatch):
    folders = [lay_out()[0], lay_out()[0]]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")

    said = list(mirrors.catch_up(folders, {"tensorboard": "", "mlflow": ""}))

    assert [see_tensorboard(folder).entries for folder in folders] == [1, 1]
    (late,) = (one for one in said if isinstance(one, Behind))
    assert late.mirror == "mlflow" and "does not answer" in late.problem
    assert list(mirrors.catch_up(folders, {"tensorboard": ""})) == []  # nothing is left to do


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["mirror"], "track.mirror names no mirror"),
        (["mirror", "--set", "track.mirror=[comet]"], "write tensorboard, mlflow or wandb"),
        (["--set", "track.mirror=[comet]"], "write tensorboard, mlflow or wandb"),
    ],
)
def test_what_cannot_be_mirrored_is_refused(home, words, says):
    done = subprocess.run(
        [sys.executable, "-m", "mlstack", "train", *words], cwd=home, capture_output=True, text=True
    )

    assert done.returncode == 2
    assert says in done.stderr


@pytest.mark.slow
def test_training_copies_its_run_and_ends_well_whatever_becomes_of_the_copies(home):
    done = subprocess.run(
        [sys.executable, "-m", "mlstack", "train", "--epochs", "1", "--set",
         "track.mirror=[tensorboard,mlflow]"],
        cwd=home, env=os.environ | {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"},
        capture_output=True, text=True,
    )  # fmt: skip
    newest = max((home / ".mlstack" / "runs").iterdir())

    assert done.returncode == 0, done.stderr
    assert "warning: the mirror mlflow is behind" in done.stderr
    if "the mirror tensorboard is behind" in done.stderr:  # the machine was busy for ten seconds
        catch_up = ["train", "mirror", newest.name, "--set", "track.mirror=[tensorboard]"]
        subprocess.run([sys.executable, "-m", "mlstack", *catch_up], cwd=home, check=True)
    (finished,) = (event for event in read_events(newest) if isinstance(event, Finished))
    seen = see_tensorboard(newest)
    ((_, accuracy),) = seen.points["val/acc"]
    assert accuracy == pytest.approx(finished.metrics["val/acc"])
    assert seen.points["system/examples_per_s"][0][1] > 0
    assert seen.state == "FINISHED"
    shutil.rmtree(newest)


def epoch_ended(spec: RunSpec, step: int) -> EpochEnded:
    return EpochEnded(
        run=spec.id, at=time.time(), epoch=step // 5, epochs=4, step=step, metrics={"val/loss": 1.0}
    )


def see_tensorboard_points(folder: Path) -> list[int]:
    try:
        return [step for step, _ in see_tensorboard(folder).points.get("val/loss", [])]
    except KeyError:  # its first lines are not there yet
        return []


def mirrors_of(folder: Path) -> list[psutil.Process]:
    """Find the processes that copy a run, by what their command line says."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if str(folder) in words and mirrors.WORKER in words:
            found.append(process)
    return found


def family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
