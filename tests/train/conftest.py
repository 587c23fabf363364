"""Runs as the front end plans them, small, for the worker alone."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from mlstack.config import load
from mlstack.inputs.splits import Shares, divide
from mlstack.records import base, dataset
from mlstack.records.run import SPEC, CodeVersion, Environment, RunSpec

TEMPLATE = Path(__file__).parents[2] / "templates" / "image-classification"
IMAGES = 200

Plan = Callable[..., Path]


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Give a function that lays out a run of the template on 200 images."""
    root = tmp_path_factory.mktemp("worker")
    (root / "my_project").symlink_to(TEMPLATE / "my_project")
    (root / "mlstack.yaml").write_text((TEMPLATE / "mlstack.yaml").read_text())
    paths, labels = unpack(root / "images")

    def lay_out(name: str, *sets: str, **changed: Any) -> Path:
        folder = root / "runs" / name
        folder.mkdir(parents=True)
        project = load(root / "mlstack.yaml", sets=("train.epochs=2", *sets))
        spec = RunSpec(
            id=name,
            created="2026-01-02T03:04:05+00:00",
            root=str(root),
            command=["test"],
            config=project.config.model_dump(mode="json", by_alias=True),
            dataset=dataset.DatasetVersion(name="digits", source="data/digits", md5="0.dir"),
            code=CodeVersion(),
            environment=Environment(python="3", platform="test", cpu_count=2),
            seed=17,
            classes=sorted(set(labels)),
            ranks=project.config.train.ranks,
        )
        base.write(folder / SPEC, msgspec.structs.replace(spec, **changed))
        names = [Path(path).name for path in paths]  # the temporary folder must decide nothing
        parts = divide(names, labels, Shares(0.8, 0.1, 0.1), 17)
        table = pa.table(
            {
                "path": paths,
                "label": labels,
                "target": pa.array([int(label) for label in labels], pa.int32()),
                "split": parts,
            }
        )
        dataset.write_examples(folder / dataset.EXAMPLES, table)
        return folder

    return lay_out


def unpack(folder: Path) -> tuple[list[str], list[str]]:
    """Cut the first digits out of the template's sheet."""
    folder.mkdir()
    sheet = np.asarray(Image.open(TEMPLATE / "data" / "digits.png"))
    labels = list((TEMPLATE / "data" / "digits.txt").read_text().strip()[:IMAGES])
    paths = []
    for number in range(IMAGES):
        top, left = number // 60 * 8, number % 60 * 8
        path = folder / f"{number:04d}.png"
        Image.fromarray(sheet[top : top + 8, left : left + 8]).save(path)
        paths.append(str(path))
    return paths, labels


@pytest.fixture
def start() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Give a function that starts a rank as the supervisor does; what is left over is killed."""
    started = []

    def start_rank(folder: Path, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "mlstack.train.worker", str(folder), *arguments],
            cwd=folder.parents[1],
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start_rank
    for process in started:
        with process:
            process.kill()


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    """Put back the handlers that a rank in this process has set."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
