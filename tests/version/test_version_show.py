import json
import zipfile
from pathlib import Path

import pytest

from mlstack.errors import DataError
from mlstack.records.base import write
from mlstack.records.dataset import DatasetVersion
from mlstack.records.lineage import Lineage
from mlstack.records.package import Live
from mlstack.records.run import (
    CodeVersion,
    Environment,
    Finished,
    RunSpec,
    append_event,
)
from mlstack.version.repeat import same_tensors

CODE = CodeVersion(commit="c" * 40, dirty=True, diff_file="code.diff")
MACHINE = Environment(python="3.11.7", platform="linux", cpu_count=2, packages={"torch": "2.13.0"})
DATA = DatasetVersion(
    name="digits", source="data/digits", md5="a" * 32 + ".dir", revision="b" * 40, files=301
)


def lay_run(project: Path, run: str, lr: float, parent: str | None = None) -> None:
    folder = project / ".mlstack" / "runs" / run
    spec = RunSpec(
        id=run,
        created="2026-01-02T03:04:05Z",
        root=str(project),
        command=["mlstack", "train"],
        config={"model": {"args": {"lr": lr}}},
        dataset=DATA,
        code=CODE,
        environment=MACHINE,
        seed=17,
        classes=list("0123456789"),
        parent=parent,
    )
    write(folder / "run.json", spec)
    end = Finished(run=run, at=1.0, step=10, epoch=2, metrics={"test/acc": 0.97})
    append_event(folder, end)


@pytest.fixture
def lineage(project: Path) -> Path:
    """Two runs, the second from the first, and a live package of the second."""
    lay_run(project, "20260101-000000-aaaa", 0.1)
    lay_run(project, "20260102-000000-bbbb", 0.2, parent="20260101-000000-aaaa")
    package = project / "models" / "my_project" / "1"
    record = Lineage(
        model="my_project",
        number=1,
        run="20260102-000000-bbbb",
        created="2026-01-02T05:00:00Z",
        dataset=DATA,
        code=CODE,
        environment=MACHINE,
        config={"model": {"args": {"lr": 0.2}}},
        seed=17,
        checkpoint_sha256="d" * 64,
        parent="20260101-000000-aaaa",
    )
    write(package / "mlstack" / "lineage.json", record)
    (package / "model.onnx").write_bytes(b"onnx")
    write(package.parent / "live.json", Live(live=1, changed="2026-01-03T00:00:00Z"))
    return project


@pytest.mark.parametrize(
    "wanted",
    ["my_project/1", "my_project", "1", "models/my_project/1", "models/my_project/1/model.onnx"],
)
def test_a_package_leads_to_data_code_config_seed_and_libraries(lineage, answer, wanted) -> None:
    said = answer("show", wanted)

    assert (said["model"], said["number"], said["run"]) == ("my_project", 1, "20260102-000000-bbbb")
    assert said["dataset"]["md5"] == DATA.md5
    assert said["dataset"]["revision"] == DATA.revision
    assert said["code"]["commit"] == CODE.commit
    assert said["code"]["dirty"]
    assert said["seed"] == 17
    assert said["environment"]["packages"] == {"torch": "2.13.0"}
    assert said["settings"] == [
        {"kind": "version.setting", "v": 1, "key": "model.args.lr", "before": 0.1, "after": 0.2}
    ]
    assert said["parents"] == ["20260101-000000-aaaa"]
    assert said["live"] == ["live since 2026-01-03T00:00:00Z"]


@pytest.mark.parametrize(
    "wanted", ["20260102-000000-bbbb", "bbbb", ".mlstack/runs/20260102-000000-bbbb"]
)
def test_a_run_leads_to_its_origin_and_its_packages(lineage, answer, version, wanted) -> None:
    said = answer("show", wanted)

    assert said["run"] == "20260102-000000-bbbb"
    assert said["packages"] == ["my_project/1"]
    assert said["metrics"] == {"test/acc": 0.97}
    text = version("show", wanted).stdout
    assert "lr: 0.1 -> 0.2" in text
    assert "torch 2.13.0" in text


def test_an_unknown_or_ambiguous_name_is_said(lineage, version) -> None:
    unknown, several = version("show", "zzzz"), version("show", "2026")

    assert (unknown.returncode, several.returncode) == (3, 3)
    assert "no run or package fits `zzzz`" in unknown.stderr
    assert "2 runs fit" in several.stderr


def test_a_run_on_unsnapshotted_data_cannot_be_reproduced(lineage, version) -> None:
    path = lineage / ".mlstack" / "runs" / "20260102-000000-bbbb" / "run.json"
    spec = json.loads(path.read_text())
    spec["dataset"]["dirty"] = True
    path.write_text(json.dumps(spec))

    done = version("reproduce", "bbbb")

    assert done.returncode == 3
    assert "in no snapshot" in done.stderr


def test_reproduce_says_when_the_commit_is_not_here(lineage, version) -> None:
    done = version("reproduce", "bbbb")

    assert done.returncode == 3
    assert "is not here" in done.stderr
    assert not (lineage / ".mlstack" / "reproduce" / "20260102-000000-bbbb").exists()


def checkpoint(path: Path, numbers: bytes, note: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{path.stem}/data.pkl", note)
        archive.writestr(f"{path.stem}/data/0", numbers)
    return path


def test_checkpoints_are_compared_by_their_numbers_only(tmp_path) -> None:
    first = checkpoint(tmp_path / "a.ckpt", b"1234", b"at noon")
    same = checkpoint(tmp_path / "b.ckpt", b"1234", b"at midnight")
    other = checkpoint(tmp_path / "c.ckpt", b"1235", b"at noon")
    (tmp_path / "cut.ckpt").write_bytes(first.read_bytes()[:30])

    assert same_tensors(first, same)
    assert not same_tensors(first, other)
    with pytest.raises(DataError, match="cut"):
        same_tensors(first, tmp_path / "cut.ckpt")
