"""CPU and wall of `mlstack version check` on 50,000 images, near copies across parts included.

python benchmarks/version_check.py [IMAGES]
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from mlstack.records import dataset

SIDE_PX = 96
COPIES = 100  # recompressed copies of other images


def make(folder: Path, count: int) -> None:
    """Write JPEGs of smooth noise, ten classes, and some recompressed copies."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(17)
    rows = []
    for number in range(count):
        if number < count - COPIES:
            coarse = Image.fromarray(rng.integers(0, 255, (7, 7, 3), dtype=np.uint8))
            picture = coarse.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
        else:
            picture = Image.open(folder / "images" / f"{number - count + COPIES:06d}.jpg")
        picture.save(folder / "images" / f"{number:06d}.jpg", quality=90 if number < 100 else 70)
        rows.append({"path": f"images/{number:06d}.jpg", "label": str(number % 10)})
    for number, row in enumerate(rows[count - COPIES :]):
        row["label"] = rows[number]["label"]
    dataset.write_labels(folder / dataset.LABELS, pa.Table.from_pylist(rows))


def main() -> None:
    """Print one line."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    template = Path(__file__).parents[1] / "templates" / "image-classification" / "mlstack.yaml"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "mlstack.yaml").write_text(template.read_text())
        make(root / "data" / "digits", count)
        command = [sys.executable, "-m", "mlstack", "version", "check", "--json"]
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        done = subprocess.run(command, cwd=root, capture_output=True, check=False)
        wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        found = done.stdout.count(b'"near-copies-across-parts"')
        print(
            f"{count:,} JPEGs of {SIDE_PX} px: {used:.1f} CPU-s, {wall:.1f} s on "
            f"{os.cpu_count()} cores, largest process {after.ru_maxrss / 1e3:.0f} MB, "
            f"{found} pairs across parts"
        )


if __name__ == "__main__":
    main()
