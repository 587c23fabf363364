"""Images a second and core: decoded from JPEG, gathered from what is kept, and what people do.

python benchmarks/train_images.py [ROUNDS]

Pictures are made up: smooth shapes with the noise of a camera, as JPEG of 500 x 375 (quality 90),
and a few of 4000 x 3000 as a phone makes them.
"Pillow and a DataLoader" is torch's own way: one file, one tensor, stacked. CPU seconds of the
process with one thread; the rows take turns, the best of the rounds is shown.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from mlstack.inputs import decoded
from mlstack.inputs.images import WHOLE, ImageSpec, load
from mlstack.train.worker.data import Mapped
from mlstack.train.worker.ranks import Rank
from mlstack.train.worker.sampling import Seat, seat

FILES = 64
PHOTOS = 4  # of 12 megapixels
KEPT = 4096  # images in the store, more than any cache of the processor holds
BATCH = 64


class Plain(Dataset):
    """What a tutorial writes."""

    def __init__(self, paths: list[str], side: int) -> None:
        self.paths, self.side = paths, side

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        with Image.open(self.paths[index]) as image:
            small = image.convert("RGB").resize((self.side, self.side), Image.Resampling.BILINEAR)
            return torch.from_numpy(np.array(small)), 0


def make(folder: Path, count: int = FILES, height: int = 375, width: int = 500) -> list[str]:
    random = np.random.default_rng(0)
    down, across = np.mgrid[0:height, 0:width]
    paths = []
    for number in range(count):
        waves = [100 * np.sin(across / (9 + number) + down / (31 + 5 * c)) for c in range(3)]
        pixels = 127 + np.stack(waves, -1) + random.normal(0, 6, (height, width, 3))
        path = folder / f"{number}-{width}.jpg"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
        paths.append(str(path))
    return paths


def mapped(folder: Path, side: int) -> DataLoader:
    """Give the loader that mlstack makes of a store of random images."""
    images = np.memmap(folder / f"{side}", np.uint8, "w+", shape=(KEPT, side, side, 3))
    images[:] = np.random.default_rng(1).integers(0, 255, (1, side, side, 3), dtype=np.uint8)
    images.flush()
    images = np.memmap(folder / f"{side}", np.uint8, "c", shape=images.shape)
    given = Mapped(
        torch.from_numpy(images), torch.arange(KEPT), torch.zeros(KEPT, dtype=torch.int64)
    )
    plain = DataLoader(given, BATCH, shuffle=True, collate_fn=lambda batch: batch)
    return seat(plain, Seat(Rank(), 1, train=True))


def through(loader: DataLoader) -> int:
    return sum(len(batch[0]) for batch in loader)


def rate(work: Callable[[], int]) -> float:
    began = time.process_time()
    count = work()
    return count / (time.process_time() - began)


def parts(paths: list[str]) -> dict[str, float]:
    """Give milliseconds of the two parts that a small picture's time goes into."""
    opened = []
    for path in paths:
        with Image.open(path) as image:
            image.load()
            opened.append(image.copy())

    def decode() -> int:
        for path in paths:
            with Image.open(path) as image:
                image.load()
        return len(paths)

    def resize() -> int:
        return len([one.resize((224, 224), Image.Resampling.BILINEAR) for one in opened])

    return {
        "decoding": 1000 / max(rate(decode) for _ in range(5)),
        "resizing": 1000 / max(rate(resize) for _ in range(5)),
    }


def moved(path: str) -> tuple[float, float]:
    """Give how far values lie from those of a JPEG that is decoded whole: in the mean, at most."""
    whole = load(path, ImageSpec(224, 224, 3, WHOLE)).astype(int)
    apart = np.abs(load(path, ImageSpec(224, 224, 3)) - whole)
    return float(apart.mean()), float(apart.max())


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = make(folder)
        photos = make(folder, PHOTOS, 3000, 4000)
        spec = ImageSpec(224, 224, 3)
        size = sum(Path(path).stat().st_size for path in paths) / FILES
        stores = {side: mapped(folder, side) for side in (64, 224)}
        work: dict[str, Callable[[], int]] = {
            "Pillow and a DataLoader, 224 px": lambda: through(
                DataLoader(Plain(paths, 224), BATCH)
            ),
            "mlstack, decoded and resized to 224 px": lambda: len([load(p, spec) for p in paths]),
            "Pillow and a DataLoader, photographs": lambda: through(
                DataLoader(Plain(photos, 224), BATCH)
            ),
            "mlstack, photographs": lambda: len([load(p, spec) for p in photos]),
            "mlstack, from what is kept, 224 px": lambda: through(stores[224]),
            "mlstack, from what is kept, 64 px": lambda: through(stores[64]),
        }
        best = dict.fromkeys(work, 0.0)
        for _ in range(rounds):
            for what, run in work.items():
                best[what] = max(best[what], rate(run))
        table = pa.table({"path": paths})
        began = time.process_time()
        decoded.images(folder / "examples.parquet", table, spec)
        first = FILES / (time.process_time() - began)
        mean, most = np.max([moved(photo) for photo in photos], axis=0)
        costs = parts(paths)
    base = next(iter(best.values()))
    print(f"{FILES} JPEG files of {size / 1000:.0f} kB; images per CPU second, best of {rounds}")
    for what, found in best.items():
        digits = 0 if found > 100 else 1
        print(f"  {what:<42} {found:>9,.{digits}f}  {found / base:>7.2f} x")
    print(f"  values of a photograph move by {mean:.2f} in the mean and {most:.0f} at most, of 255")
    print("  " + ", ".join(f"{name} {ms:.2f} ms" for name, ms in costs.items()), "(Pillow alone)")
    print(f"  {'mlstack, decoded and kept, once':<42} {first:>9,.0f}  {first / base:>7.1f} x")


if __name__ == "__main__":
    main()
