import shutil
import subprocess

import pyarrow as pa
import pytest
from PIL import Image

from mlstack.config import load
from mlstack.errors import ConfigError, DataError
from mlstack.launch import dataset, examples
from mlstack.launch.gpus import Gpu
from mlstack.launch.plan import PlanOptions, plan, prepare
from mlstack.records import base
from mlstack.records.dataset import LABELS, read_examples, read_labels, write_labels
from mlstack.records.run import SPEC, RunSpec


def loaded(project):
    return load(project / "mlstack.yaml")


def relabel(project, change):
    """Rewrite the labels; `change` gets the rows and gives the new ones."""
    file = project / "data" / "digits" / LABELS
    write_labels(file, pa.Table.from_pylist(change(read_labels(file).to_pylist())))


def problems(project):
    with pytest.raises(DataError) as caught:
        prepare(loaded(project), allow_dirty=True)
    return [m.problem for m in caught.value.mistakes]


def test_snapshotted_data_has_a_version_with_its_commit(project):
    version = dataset.resolve(loaded(project), allow_dirty=False)

    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=project, text=True).strip()
    assert version.revision == head
    assert version.md5.endswith(".dir")
    assert not version.dirty
    assert version.files == 301


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: (p / "data/digits/images/0000.png").unlink(), "301 files then, 300 now"),
        (lambda p: (p / "data/digits.dvc").unlink(), "there is no `digits.dvc`"),
        (lambda p: shutil.rmtree(p / ".git"), "not in a git repository"),
    ],
)
def test_data_that_is_not_snapshotted_is_refused_and_allowed_on_request(project, change, words):
    change(project)

    with pytest.raises(DataError, match=words) as caught:
        dataset.resolve(loaded(project), allow_dirty=False)
    allowed = dataset.resolve(loaded(project), allow_dirty=True)

    assert "mlstack version snapshot" in caught.value.hint
    assert allowed.dirty
    assert allowed.revision is None
    assert allowed.md5.endswith(".dir")


def test_a_snapshot_that_is_not_committed_is_refused(project):
    subprocess.run(["git", "rm", "-q", "--cached", "data/digits.dvc"], cwd=project, check=True)

    with pytest.raises(DataError, match="not committed"):
        dataset.resolve(loaded(project), allow_dirty=False)


def test_missing_data_is_named(project):
    shutil.rmtree(project / "data/digits")

    with pytest.raises(DataError, match="there is no folder `data/digits`"):
        dataset.resolve(loaded(project), allow_dirty=True)


def test_every_problem_of_the_labels_is_named_at_once(project):
    def spoil(rows):
        (project / "data/digits/images/0000.png").unlink()
        rows[1]["label"] = ""
        rows[2]["path"] = "../outside.png"
        rows.append(dict(rows[5]))
        return [row for row in rows if row["label"] != "9"] + [
            {"path": rows[3]["path"] + "x", "label": "cat"}
        ]

    relabel(project, spoil)

    found = problems(project)

    assert any("there is no file `images/0000.png`" in p for p in found)
    assert any("has no label" in p for p in found)
    assert any("lies outside" in p for p in found)
    assert any("is listed 2 times" in p for p in found)
    assert any("class `cat` has 1 example" in p for p in found)


def test_labels_outside_the_classes_and_empty_classes_are_named(project):
    text = (project / "mlstack.yaml").read_text()
    (project / "mlstack.yaml").write_text(
        text.replace(
            "  args: {image_size: 16, channels: 1}", "  classes: ['0', '1', ten]\n  args: {}"
        )
    )

    found = problems(project)

    assert any("label `9`" in p and "not in data.classes" in p for p in found)
    assert "class `ten` has no example" in found


def test_equal_files_with_different_labels_are_named(project):
    images = project / "data/digits/images"
    shutil.copy(images / "0000.png", images / "copy.png")
    relabel(project, lambda rows: [*rows, {"path": "images/copy.png", "label": "7"}])

    assert any("equal files with different labels" in p for p in problems(project))


def test_equal_files_stand_in_the_same_part(project):
    images = project / "data/digits/images"
    rows = read_labels(images.parent / LABELS).to_pylist()
    for row in rows:
        shutil.copy(images.parent / row["path"], images.parent / f"{row['path'][:-4]}-copy.png")
    relabel(project, lambda rows: rows + [r | {"path": f"{r['path'][:-4]}-copy.png"} for r in rows])

    table = prepare(loaded(project), allow_dirty=True).examples.to_pylist()

    part = {row["path"]: row["split"] for row in table}
    assert len(part) == 600
    assert all(part[p] == part[p.replace("-copy", "")] for p in part)


def test_groups_stay_together(project):
    text = (project / "mlstack.yaml").read_text()
    (project / "mlstack.yaml").write_text(
        text.replace("test: 0.1}", "test: 0.1, group_by: writer}")
    )
    relabel(project, lambda rows: [r | {"writer": f"w{n % 90}"} for n, r in enumerate(rows)])

    table = prepare(loaded(project), allow_dirty=True).examples.to_pylist()

    parts = {}
    for row in table:
        parts.setdefault(row["writer"], set()).add(row["split"])
    assert all(len(p) == 1 for p in parts.values())
    assert {row["split"] for row in table} == {"train", "val", "test"}


def test_a_part_that_the_groups_leave_empty_is_named(project):
    text = (project / "mlstack.yaml").read_text()
    (project / "mlstack.yaml").write_text(
        text.replace("test: 0.1}", "test: 0.1, group_by: writer, stratify: false}")
    )
    relabel(project, lambda rows: [r | {"writer": "the only one"} for r in rows])

    found = problems(project)

    assert "val got no example" in found and "test got no example" in found


def test_a_small_class_stands_in_every_part(tmp_path, project):
    relabel(
        project,
        lambda rows: (
            [r for r in rows if r["label"] != "3"] + [r for r in rows if r["label"] == "3"][:3]
        ),
    )

    table = prepare(loaded(project), allow_dirty=True).examples.to_pylist()

    assert {r["split"] for r in table if r["label"] == "3"} == {"train", "val", "test"}


def test_a_class_too_small_for_every_part_is_refused(project):
    relabel(
        project,
        lambda rows: (
            [r for r in rows if r["label"] != "3"] + [r for r in rows if r["label"] == "3"][:2]
        ),
    )

    assert any("class `3` has too few examples (2)" in p for p in problems(project))


def test_a_folder_per_class_needs_no_labels_file(project):
    source = project / "data/digits"
    shutil.rmtree(source)
    for number in range(20):
        target = source / ("cat" if number % 2 else "dog") / f"{number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number).save(target)

    ready = prepare(loaded(project), allow_dirty=True)

    assert ready.classes == ["cat", "dog"]
    assert ready.examples.num_rows == 20


def test_classes_are_ordered_as_people_count():
    assert sorted(["10", "9", "b2", "b10", "a"], key=examples.natural) == [
        "9",
        "10",
        "a",
        "b2",
        "b10",
    ]


def test_a_plan_leaves_a_whole_run_folder(project):
    spec = plan(loaded(project), PlanOptions(command=("mlstack", "train")))

    folder = project / ".mlstack" / "runs" / spec.id
    assert base.read(folder / SPEC, RunSpec) == spec
    table = read_examples(folder / "examples.parquet")
    assert table.num_rows == 300
    assert spec.classes == [str(n) for n in range(10)]
    assert sum(spec.dataset.split.values()) == 300
    assert spec.config["model"]["class"] == "my_project.model:Net"
    assert spec.seed == 17
    assert spec.code.commit
    assert not spec.code.dirty
    assert "torch" in spec.environment.packages
    assert not list(folder.parent.glob(".*"))


def test_changed_and_new_code_is_kept_as_a_patch_that_applies(project, tmp_path):
    (project / "my_project" / "extra.py").write_text("x = 1\n")
    model = project / "my_project" / "model.py"
    model.write_text(model.read_text() + "changed = True\n")

    spec = plan(loaded(project), PlanOptions())

    assert spec.code.dirty
    patch = project / ".mlstack" / "runs" / spec.id / "code.diff"
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(project), str(clone)], check=True)
    subprocess.run(["git", "apply", str(patch)], cwd=clone, check=True)
    assert (clone / "my_project" / "extra.py").read_text() == "x = 1\n"
    assert (clone / "my_project" / "model.py").read_text() == model.read_text()


@pytest.mark.parametrize("below", ["", "team/its project"])
def test_the_patch_is_exact_whatever_git_is_told_and_files_hold(project, tmp_path, below):
    if below:
        moved = tmp_path / "mono" / below
        moved.parent.mkdir(parents=True)
        project.rename(moved)
        (moved / ".git").rename(tmp_path / "mono" / ".git")
        project = moved

    def git(*words, folder=project):
        subprocess.run(["git", *words], cwd=folder, check=True)

    tracked = {
        "old.bin": b"a\0b",
        "crlf.py": b"a\r\nb\r\n",
        "latin.txt": b"caf\xe9\n",
        "bare": b"a",
    }
    for name, content in tracked.items():
        (project / name).write_bytes(content)
    git("add", "-A", ".")
    git("commit", "-qm", "files")
    changed = {name: content * 2 for name, content in tracked.items()}
    new = {"a b.py": b"x = 1", "win.py": b"x\r\ny\r\n", "page.py": b"\x0cx\n\n", "none": b""}
    new |= {"l1.txt": b"\xe9\n", "\u00fc.py": "# \u2028\n".encode()}
    for name, content in (changed | new).items():
        (project / name).write_bytes(content)
    odd = ("color.ui=always", "diff.noprefix=true", "diff.relative=true", "diff.context=0")
    for setting in odd:
        git("config", *setting.split("="))

    spec = plan(loaded(project), PlanOptions())

    patch = project / ".mlstack" / "runs" / spec.id / "code.diff"
    clone = tmp_path / "clone"
    top = tmp_path / "mono" if below else project
    git("clone", "-q", str(top), str(clone))
    git("apply", "--whitespace=nowarn", str(patch), folder=clone)
    for name, content in (changed | new).items():
        assert (clone / below / name).read_bytes() == content, name


def test_overrides_are_validated_and_recorded(project):
    spec = plan(
        loaded(project), PlanOptions(overrides={"model.args.lr": 0.5, "train.epochs": 3}, trial=2)
    )

    assert spec.config["model"]["args"] == {"width": 16, "lr": 0.5, "channels": 1}
    assert spec.config["train"]["epochs"] == 3
    with pytest.raises(ConfigError) as caught:
        plan(loaded(project), PlanOptions(overrides={"train.epochs": 0, "train.epoch": 3}))
    assert len(caught.value.mistakes) == 2


def test_from_run_takes_the_config_of_the_parent(project):
    parent = plan(loaded(project), PlanOptions(overrides={"model.args.lr": 0.5}))

    child = plan(loaded(project), PlanOptions(parent=parent.id, overrides={"train.batch_size": 32}))

    assert child.config["model"]["args"]["lr"] == 0.5
    assert child.config["train"]["batch_size"] == 32
    assert child.parent == parent.id


def test_a_batch_that_ranks_cannot_share_is_refused(project):
    gpus = tuple(Gpu(n, f"GPU-{n}", "A") for n in range(3))

    with pytest.raises(ConfigError, match="cannot be shared evenly by 3 ranks") as caught:
        plan(loaded(project), PlanOptions(gpus=gpus))

    assert "63" in caught.value.hint


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"train.ranks": 64, "train.batch_size": 64}, "64 ranks cannot share 30 examples of val"),
        ({"train.precision": "fp16"}, "fp16 needs a GPU"),
        ({"train.class_weights": {"nope": 2.0}}, "there is no class `nope`"),
        (
            {"train.strategy": "fsdp", "train.ranks": 2, "train.ema": 0.9},
            "an average of weights that are in parts is not kept",
        ),
        ({"train.batch_size": -1}, "train.batch_size: -1 should be greater than or equal to 1"),
    ],
)
def test_what_the_ranks_would_refuse_leaves_no_run(project, settings, words):
    with pytest.raises(ConfigError) as caught:
        plan(loaded(project), PlanOptions(overrides=settings))

    said = [caught.value.problem, *(one.problem for one in caught.value.mistakes)]
    assert any(words in one for one in said)
    assert not list((project / ".mlstack").glob("runs/*"))
