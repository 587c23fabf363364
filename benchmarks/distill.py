"""A student 15 times smaller, with a tenth of the labels, beside its teacher: accuracy, paired.

1,797 digits (8 x 8, as the image template ships them), a division into train, val and test (70, 10,
20 %) for each seed. The teacher (`my_project.model:Net`, width 32) has all labels. Students (width
8) have a tenth of those of train and val: one learns from them alone, one also what the teacher
says of them (`train.distill`), one also of the images without a label (`train.distill.unlabeled`).
All are runs of the training worker as it is.

    python benchmarks/distill.py [SEEDS]
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import torch

sys.path[:0] = [str(Path(__file__).parents[1] / "tests")]
from projects import make_project  # noqa: E402

from mlstack.config import load  # noqa: E402
from mlstack.inputs.splits import Shares, divide  # noqa: E402
from mlstack.records import base, dataset, run  # noqa: E402
from mlstack.stats.testing import mcnemar  # noqa: E402

IMAGES, LABELED = 1797, 0.1
TEACHER = ("model.args.width=32", "train.epochs=25")
SMALL = ("model.args.width=8", "train.batch_size=32", "train.epochs=250")
BOTH = ("train.ema=0.98", "train.monitor=val/loss", "train.mode=min")
ANSWERS = """
import json, sys
import torch
from my_project.data import Images
from my_project.model import Net

found = {}
for folder in sys.argv[1:]:
    saved = torch.load(folder + "/checkpoints/best.ckpt", weights_only=True)
    data = Images(folder + "/examples.parquet")
    data.setup()
    net = Net(width=saved["state_dict"]["body.0.0.weight"].shape[0]).eval()
    net.load_state_dict(saved["state_dict"])
    images, targets = data.parts["test"].tensors
    with torch.inference_mode():
        right = net(images).argmax(1) == targets
    found[folder] = [right.tolist(), sum(p.numel() for p in net.parameters())]
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Labels:
    """The examples of one seed: all of them, and with few labels."""

    whole: pa.Table
    few: pa.Table
    pool: pa.Table


def labels(root: Path, seed: int) -> Labels:
    """Divide, and forget nine tenths of the labels of train and val."""
    rows = dataset.read_labels(root / "data/digits/labels.parquet").to_pylist()
    names, given = [row["path"] for row in rows], [row["label"] for row in rows]
    parts = divide(names, given, Shares(0.7, 0.1, 0.2), seed)
    places = [n for n, part in enumerate(parts) if part != "test"]
    strata = [given[n] + parts[n] for n in places]
    known = divide([names[n] for n in places], strata, Shares(LABELED, 1 - LABELED, 0), seed)
    forgotten = {n for n, part in zip(places, known, strict=True) if part != "train"}
    examples = [
        {
            "path": str(root / "data/digits" / name),
            "label": label,
            "target": int(label),
            "split": part,
        }
        for name, label, part in zip(names, given, parts, strict=True)
    ]
    few = [row for n, row in enumerate(examples) if n not in forgotten]
    asked = [
        row | {"label": "", "target": 0, "split": "test"}
        for n, row in enumerate(examples)
        if n in forgotten
    ]
    learnt = [row for row in few if row["split"] != "test"]
    tables = (examples, few, [*learnt, *asked])
    return Labels(*(pa.Table.from_pylist(t, schema=dataset.EXAMPLES_SCHEMA) for t in tables))


def train(
    root: Path, name: str, seed: int, given: tuple[pa.Table, pa.Table | None], *sets: str
) -> Path:
    """Lay out a run and train it; give its folder."""
    folder = root / ".mlstack/runs" / f"{name}-{seed}"
    sets = (f"project.seed={seed}", *BOTH, *sets)
    config = load(root / "mlstack.yaml", sets=sets).config
    spec = run.RunSpec(
        id=folder.name,
        created="2026-01-02T03:04:05Z",
        root=str(root),
        command=["benchmark"],
        config=config.model_dump(mode="json", by_alias=True),
        dataset=dataset.DatasetVersion(name="digits", source="data/digits", md5="0.dir"),
        code=run.CodeVersion(),
        environment=run.Environment(python="3.11", platform="linux", cpu_count=2),
        seed=seed,
        classes=[str(number) for number in range(10)],
    )
    base.write(folder / run.SPEC, spec)
    dataset.write_examples(folder / dataset.EXAMPLES, given[0])
    if given[1] is not None:
        dataset.write_examples(folder / dataset.UNLABELED, given[1])
    python(root, "-m", "mlstack.train.worker", folder)
    return folder


def python(root: Path, *words: object) -> str:
    """Run Python in the project; give what it printed."""
    path = f"{root}{os.pathsep}{Path(__file__).parents[1]}"
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=root,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    return done.stdout


def one_seed(root: Path, seed: int) -> dict[str, tuple[list[bool], int]]:
    """Train the teacher and its students; give which test examples each has right, and its size."""
    given = labels(root, seed)
    distill = f"train.distill={{run: teacher-{seed}, weight: 0.7, temperature: 4"
    folders = {
        "teacher": train(root, "teacher", seed, (given.whole, None), *TEACHER),
        "alone": train(root, "alone", seed, (given.few, None), *SMALL),
        "labeled": train(root, "labeled", seed, (given.few, None), *SMALL, distill + "}"),
        "pool": train(
            root, "pool", seed, (given.few, given.pool), *SMALL, distill + ", unlabeled: true}"
        ),
    }
    found = json.loads(python(root, "-c", ANSWERS, *folders.values()))
    answers = {name: tuple(found[str(folder)]) for name, folder in folders.items()}
    shares = "  ".join(f"{n} {sum(a[0]) / len(a[0]):.2%}" for n, a in answers.items())
    print(
        f"seed {seed}: {given.few['split'].to_pylist().count('train')} labels  {shares}", flush=True
    )
    return answers


def main() -> None:
    """Print the table."""
    seeds = range(1, 1 + int(sys.argv[1]) if len(sys.argv) > 1 else 6)
    with tempfile.TemporaryDirectory() as name:
        root = make_project(Path(name) / "digits", images=IMAGES)
        found = [one_seed(root, seed) for seed in seeds]
    print(
        "\n| | parameters | test/acc, mean (sd) | minus teacher, points | lost, gained | chance |"
    )
    print("|---|---|---|---|---|---|")
    for kind in found[0]:
        shares = [100 * statistics.mean(one[kind][0]) for one in found]
        against = [100 * statistics.mean(one["teacher"][0]) for one in found]
        apart = [a - b for a, b in zip(shares, against, strict=True)]
        pairs = [p for one in found for p in zip(one["teacher"][0], one[kind][0], strict=True)]
        lost, gained = pairs.count((True, False)), pairs.count((False, True))
        spread = statistics.stdev(shares) if len(shares) > 1 else 0.0
        each = ", ".join(f"{points:+.2f}" for points in apart)
        print(
            f"| {kind} | {found[0][kind][1]:,} | {statistics.mean(shares):.2f} ({spread:.2f}) "
            f"| {statistics.mean(apart):+.2f} ({each}) | {lost}, {gained} of {len(pairs)} "
            f"| {mcnemar(lost, gained):.3f} |"
        )
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"\ntorch {torch.__version__}; {used.ru_utime + used.ru_stime:.0f} s of CPU")


if __name__ == "__main__":
    main()
