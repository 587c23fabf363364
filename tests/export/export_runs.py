"""Runs that are made without the training worker, and commands as a user types them."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from mlstack.config import load
from mlstack.inputs.splits import Shares, divide
from mlstack.records import base, dataset, dvc, run

RUN = "20260102-030405-abcd"
TRAIN = """
import sys
import torch
from torch.nn import functional
from my_project.data import Images
from my_project.model import Net

examples, checkpoint = sys.argv[1:]
torch.manual_seed(0)
data = Images(examples)
data.setup()
net = Net(width=16, num_classes=10).train()
optimizer = torch.optim.AdamW(net.parameters(), 3e-3)
for _ in range(25):
    for images, targets in data.train_dataloader():
        optimizer.zero_grad()
        functional.cross_entropy(net(images), targets).backward()
        optimizer.step()
torch.save({"state_dict": net.state_dict(), "hyper_parameters": dict(net.hparams)}, checkpoint)
"""


@dataclass(frozen=True)
class Cli:
    """A command and what came of it."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict:
        return json.loads(self.out)


def mlstack(project: Path, *arguments: str) -> Cli:
    """Run a command as a user would, in a pipe."""
    done = subprocess.run(
        [sys.executable, "-m", "mlstack", *arguments],
        cwd=project,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    return Cli(done.returncode, done.stdout, done.stderr)


def write_run(root: Path, run_id: str = RUN) -> Path:
    """Write the spec and the examples of a run over the project's data."""
    config = load(root / "mlstack.yaml").config
    labels = dataset.read_labels(root / "data/digits/labels.parquet").to_pylist()
    classes = sorted({row["label"] for row in labels})
    names = [row["path"] for row in labels]
    shares = Shares(train=0.6, val=0.2, test=0.2)
    parts = divide(names, [row["label"] for row in labels], shares, 17)
    folder = root / ".mlstack/runs" / run_id
    rows = [
        {
            "path": str(root / "data/digits" / row["path"]),
            "label": row["label"],
            "target": classes.index(row["label"]),
            "split": part,
        }
        for row, part in zip(labels, parts, strict=True)
    ]
    table = pa.Table.from_pylist(rows, schema=dataset.EXAMPLES_SCHEMA)
    dataset.write_examples(folder / dataset.EXAMPLES, table)
    pointer = dvc.read_pointer(root / "data/digits.dvc")
    spec = run.RunSpec(
        id=run_id,
        created="2026-01-02T03:04:05Z",
        root=str(root),
        command=["mlstack", "train"],
        config=config.model_dump(mode="json", by_alias=True),
        dataset=dataset.DatasetVersion(
            name="digits", source="data/digits", md5=pointer.md5, classes=classes
        ),
        code=run.CodeVersion(),
        environment=run.Environment(python="3.11", platform="linux", cpu_count=2),
        seed=17,
        classes=classes,
    )
    base.write(folder / run.SPEC, spec)
    (folder / run.CHECKPOINTS).mkdir()
    return folder


def finish(folder: Path, **metrics: float) -> None:
    """Let a run end well."""
    run.append_event(folder, run.Started(run=folder.name, at=1.0))
    end = run.Finished(run=folder.name, at=2.0, step=75, epoch=25, metrics=metrics)
    run.append_event(folder, end)


def copy_project(project: Path, folder: Path) -> Path:
    """Copy a project without its packages."""
    target = folder / project.name
    shutil.copytree(project, target, ignore=shutil.ignore_patterns("models", ".git"))
    return target


def packages(project: Path) -> list[str]:
    """Name everything below models/."""
    models = project / "models"
    return sorted(p.relative_to(models).as_posix() for p in models.rglob("*"))


def python_path(root: Path) -> str:
    return os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
