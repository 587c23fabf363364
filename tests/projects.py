"""Projects to test with: the shipped template, small, in a git repository of its own."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from mlstack.records import data_folder, dataset, dvc

TEMPLATE = Path(__file__).parent.parent / "templates" / "image-classification"


def make_project(folder: Path, *, images: int = 300) -> Path:
    """Lay out the digits project with its first `images` pictures, labeled and snapshotted."""
    shutil.copytree(TEMPLATE / "my_project", folder / "my_project")
    shutil.copy(TEMPLATE / "mlstack.yaml", folder)
    source = folder / "data" / "digits"
    (source / "images").mkdir(parents=True)
    sheet = np.asarray(Image.open(TEMPLATE / "data" / "digits.png"))
    labels = (TEMPLATE / "data" / "digits.txt").read_text().strip()
    rows = []
    for number in range(images):
        top, left = number // 60 * 8, number % 60 * 8
        name = f"images/{number:04d}.png"
        Image.fromarray(sheet[top : top + 8, left : left + 8]).save(source / name)
        rows.append({"path": name, "label": labels[number]})
    dataset.write_labels(source / dataset.LABELS, pa.Table.from_pylist(rows))
    (folder / ".gitignore").write_text(".mlstack/\nmodels/\n/data/digits\n__pycache__/\n")
    write_pointer(source)
    commit_all(folder)
    return folder


def commit_all(folder: Path) -> None:
    """Make a folder a git repository that holds everything it does not ignore."""
    for command in (
        ["init", "-q", "-b", "main"],
        ["config", "user.name", "Test"],
        ["config", "user.email", "test@example.invalid"],
        ["add", "-A"],
        ["commit", "-q", "-m", "start"],
    ):
        subprocess.run(["git", *command], cwd=folder, check=True)


def write_pointer(source: Path) -> None:
    """Write `NAME.dvc` as stock DVC does, without its cache."""
    state = data_folder.hash_folder(source)
    dvc.pointer_path(source).write_text(
        f"outs:\n- md5: {state.md5}\n  size: {state.size_bytes}\n"
        f"  nfiles: {len(state.entries)}\n  hash: md5\n  path: {source.name}\n"
    )
