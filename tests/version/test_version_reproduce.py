"""`version reproduce`: what is compared, what is said of it, and what stands in the way."""

import hashlib
import json
import random
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from msgspec import structs
from test_version_show import CODE, DATA, MACHINE

from mlstack.errors import DataError
from mlstack.records import data_folder, dvc
from mlstack.records.base import read, write
from mlstack.records.run import Finished, RunSpec, append_event
from mlstack.version import repeat, tensors

RUN = "20260101-000000-aaaa"


def save(path: Path, weights: dict[str, torch.Tensor], **more: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"epoch": 3, "state_dict": weights, **more}, path)
    return path


def some_weights(seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return {
        "conv.weight": torch.randn(4, 3, 3, 3),
        "half": torch.randn(5).half(),
        "bfloat": torch.randn(6, 2).bfloat16(),
        "steps": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "turned": torch.randn(3, 5).t(),
        "part": torch.randn(10)[2:9:3],
        "flags": torch.tensor([True, False]),
        "parameter": torch.nn.Parameter(torch.randn(2, 2)),
    }


def test_equal_weights_are_equal_whatever_else_the_checkpoint_says(tmp_path: Path) -> None:
    first = save(tmp_path / "a.ckpt", some_weights(1), at="noon")
    second = save(tmp_path / "b.ckpt", some_weights(1), at="midnight", by=[1, {"x": 2}])

    assert tensors.compare(first, second) == []


@pytest.mark.parametrize("name", ["conv.weight", "bfloat", "turned", "part", "steps", "parameter"])
def test_a_tensor_that_differs_is_measured_as_torch_measures_it(tmp_path: Path, name: str) -> None:
    before, after = some_weights(1), some_weights(1)
    with torch.no_grad():
        after[name].view(-1)[0:1].add_(1) if after[name].is_contiguous() else after[name].add_(1)
    first, second = save(tmp_path / "a.ckpt", before), save(tmp_path / "b.ckpt", after)

    (found,) = tensors.compare(first, second)

    gap = (before[name].double() - after[name].double()).abs()
    assert (found.name, found.size) == (name, gap.numel())
    assert found.distance == pytest.approx(gap.max().item())
    assert found.count == (gap > 0).sum()


def test_missing_and_reshaped_tensors_are_named(tmp_path: Path) -> None:
    before, after = some_weights(1), some_weights(1)
    del after["half"]
    after["conv.weight"] = after["conv.weight"].reshape(12, 9)
    first, second = save(tmp_path / "a.ckpt", before), save(tmp_path / "b.ckpt", after)

    found = {one.name: one.problem for one in tensors.compare(first, second)}

    assert found["half"] == "is in one of them only"
    assert "(4, 3, 3, 3) then" in found["conv.weight"]


def test_nothing_in_a_checkpoint_can_run(tmp_path: Path) -> None:
    path = tmp_path / "evil.ckpt"
    code = b"cos\nsystem\n(S'touch %s'\ntR." % str(tmp_path / "ran").encode()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("evil/data.pkl", code)

    with pytest.raises(DataError, match="not a checkpoint"):
        tensors.compare(path, path)

    assert not (tmp_path / "ran").exists()


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "cut.ckpt", some_weights(1))
    path.write_bytes(path.read_bytes()[:300])

    with pytest.raises(DataError, match=r"cut\.ckpt"):
        tensors.compare(path, path)


def lay(folder: Path, weights: dict[str, torch.Tensor], acc: float, **more: object) -> Path:
    spec = RunSpec(
        id=folder.name,
        created="2026-01-01T00:00:00Z",
        root="/p",
        command=[],
        config={"train": {"epochs": 2}},
        dataset=DATA,
        code=structs.replace(CODE, python_sha256="e" * 64),
        environment=MACHINE,
        seed=17,
        classes=[],
    )
    write(folder / "run.json", structs.replace(spec, **more))
    append_event(folder, Finished(run=folder.name, at=1.0, step=1, epoch=1, metrics={"acc": acc}))
    save(folder / "checkpoints" / "best.ckpt", weights)
    return folder


def test_on_the_same_machine_a_small_difference_is_a_difference(tmp_path: Path) -> None:
    first = lay(tmp_path / "a", some_weights(1), 0.97)
    again = lay(tmp_path / "b", some_weights(2), 0.9700001)

    said = repeat.compare(first, again, 0.02)

    assert (said.exact, said.same(), said.exit_code()) == (True, False, 1)
    assert said.headline() == "metric-equal"
    assert {one.name for one in said.differences if one.of == "tensor"} >= {"half", "turned"}


def test_with_other_libraries_the_metrics_must_agree_within_the_tolerance(tmp_path: Path) -> None:
    newer = structs.replace(MACHINE, packages={"torch": "9.9"}, cpu_count=64)
    first = lay(tmp_path / "a", some_weights(1), 0.97)
    near = lay(tmp_path / "b", some_weights(2), 0.98, environment=newer)
    far = lay(tmp_path / "c", some_weights(2), 0.90, environment=newer)

    close, distant = (repeat.compare(first, other, 0.02) for other in (near, far))

    assert (close.exact, close.exit_code(), close.headline()) == (False, 0, "metric-equal")
    assert (distant.exit_code(), distant.headline()) == (1, "code-identical")
    named = {(one.of, one.name): one.detail for one in distant.differences}
    assert named["library", "torch"] == "2.13.0 then, 9.9 now"
    assert named["machine", "cores"] == "2 then, 64 now"
    assert named["metric", "acc"] == "0.97 then, 0.9 now"


def test_other_data_code_config_and_seed_are_named(tmp_path: Path) -> None:
    first = lay(tmp_path / "a", some_weights(1), 0.97)
    again = lay(
        tmp_path / "b",
        some_weights(1),
        0.97,
        dataset=structs.replace(DATA, md5="f" * 32 + ".dir"),
        code=structs.replace(CODE, python_sha256="0" * 64),
        config={"train": {"epochs": 3}},
        seed=18,
    )

    said = repeat.compare(first, again, 0.02)

    assert (said.headline(), said.exit_code()) == ("different", 1)
    assert [one.of for one in said.differences] == ["data", "code", "seed", "config"]
    assert said.differences[3].name == "train.epochs"


def git(project: Path, *words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=project, capture_output=True, text=True, check=True
    ).stdout


@pytest.fixture
def dirty_run(snapshotted: Path) -> Callable[..., Path]:
    """Give a function that lays a run of this commit with a patch; it returns the run's folder."""

    def make(patch: str, *, digest: str | None = None) -> Path:
        pointer = dvc.read_pointer(snapshotted / "data" / "digits.dvc")
        code = structs.replace(
            CODE,
            commit=git(snapshotted, "rev-parse", "HEAD").strip(),
            diff_sha256=digest or hashlib.sha256(patch.encode()).hexdigest(),
        )
        dataset = structs.replace(DATA, md5=pointer.md5, revision=code.commit)
        folder = snapshotted / ".mlstack" / "runs" / RUN
        lay(folder, some_weights(1), 0.9, code=code, dataset=dataset)
        (folder / "code.diff").write_text(patch)
        return folder

    return make


UNFIT = """diff --git a/mlstack.yaml b/mlstack.yaml
--- a/mlstack.yaml
+++ b/mlstack.yaml
@@ -1,1 +1,1 @@
-what never stood here
+something
"""
LARGE = f"# new file big.bin: sha256 {'1' * 64}\n"


@pytest.mark.parametrize(
    ("patch", "digest", "words"),
    [
        (UNFIT, None, "does not fit commit"),
        ("diff --git a/x b/x\n", "0" * 64, "is not what the run wrote"),
        (LARGE, None, "the run used `big.bin`"),
    ],
    ids=["unfit", "changed", "large file"],
)
def test_code_that_cannot_be_laid_out_is_said(dirty_run, version, patch, digest, words) -> None:
    dirty_run(patch, digest=digest)

    done = version("reproduce", RUN)

    assert done.returncode == 3
    assert words in done.stderr


def test_lost_changes_and_lost_data_are_said(dirty_run, version, snapshotted) -> None:
    folder = dirty_run("diff --git a/x b/x\nnew file mode 100644\n")
    spec = read(folder / "run.json", RunSpec)
    cache = snapshotted / ".dvc" / "cache" / "files" / "md5"
    md5 = data_folder.hash_folder(snapshotted / "data" / "digits").entries["images/0003.png"]
    (cache / md5[:2] / md5[2:]).unlink()

    no_data = version("reproduce", RUN)
    (folder / "code.diff").unlink()
    no_patch = version("reproduce", RUN)

    assert (no_data.returncode, no_patch.returncode) == (3, 3)
    assert "images/0003.png" in no_data.stderr
    assert f"mlstack version pull {spec.dataset.revision}" in no_data.stderr
    assert "what differed from the commit is lost" in no_patch.stderr


@pytest.mark.slow
def test_killed_in_the_middle_and_typed_again_the_bits_are_equal(
    snapshotted, in_folder, answer, version
) -> None:
    """The run has code that is in no commit; its data is in the trash when it is trained again."""
    model = snapshotted / "my_project" / "model.py"
    model.write_text(model.read_text() + "\n# tried something\n")
    (snapshotted / "my_project" / "new.py").write_text("VALUE = 1\n")
    trained = in_folder(snapshotted)("train", "--set", "train.epochs=2", "--quiet")
    assert trained.returncode == 0, trained.stderr
    run = trained.stdout.strip()
    git(snapshotted, "checkout", "-q", "--", "my_project")
    command = [sys.executable, "-m", "mlstack", "version", "reproduce", run]
    chance = random.Random(2)

    for _ in range(3):
        process = subprocess.Popen(command, cwd=snapshotted, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(1.5, 6.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
    said = answer("reproduce", run)

    assert said["ok"], said
    assert said["weights_equal"]
    assert said["differences"] == []
    assert not (snapshotted / ".mlstack" / "reproduce" / run).exists()
    assert git(snapshotted, "worktree", "list").count("\n") == 1
    spoil(snapshotted / ".mlstack" / "runs" / run / "checkpoints" / "best.ckpt")
    differs = version("reproduce", run)
    assert differs.returncode == 1
    assert "numbers differ, by up to 0.5" in differs.stdout
    assert "no   bit-equal" in differs.stdout


def spoil(checkpoint: Path) -> None:
    stored = torch.load(checkpoint, weights_only=True)
    next(iter(stored["state_dict"].values())).view(-1)[0] += 0.5
    torch.save(stored, checkpoint)


def test_the_answer_is_one_json_object_with_its_level(tmp_path: Path) -> None:
    from mlstack.records.base import encode

    first = lay(tmp_path / "a", some_weights(1), 0.97)

    said = json.loads(encode(repeat.compare(first, first, 0.02)))

    assert said["weights_equal"]
    assert said["differences"] == []
