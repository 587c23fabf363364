"""Images are decoded once for a size; what a crash or a stranger left is not believed."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from mlstack.errors import DataError
from mlstack.inputs import decoded
from mlstack.inputs.images import ImageSpec, load

SPEC = ImageSpec(8, 6, 1)


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """Lay out a project with ten pictures; give the table of a run, which is only named."""
    (tmp_path / "data").mkdir()
    noise = np.random.default_rng(3)
    for number in range(10):
        pixels = noise.integers(0, 255, (12, 9), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / f"{number}.png")
    return tmp_path / ".mlstack" / "runs" / "a" / "examples.parquet"


def table(examples: Path, numbers: list[int], *, hashed: bool = True) -> pa.Table:
    paths = [examples.parents[3] / "data" / f"{number}.png" for number in numbers]
    columns = {"path": [str(path) for path in paths]}
    if hashed:
        columns["md5"] = [hashlib.md5(path.read_bytes()).hexdigest() for path in paths]
    return pa.table(columns)


def assert_right(examples: Path, numbers: list[int], *, hashed: bool = True) -> np.ndarray:
    rows = table(examples, numbers, hashed=hashed)
    images, places = decoded.images(examples, rows, SPEC)
    expected = [load(path, SPEC) for path in rows["path"].to_pylist()]
    assert np.array_equal(images[places], np.stack(expected))
    return images


def store(examples: Path) -> Path:
    return examples.parents[2] / "decoded" / "8x6x1-2"


@pytest.mark.parametrize("hashed", [True, False])
def test_images_are_those_that_decoding_gives(examples: Path, hashed: bool) -> None:
    images = assert_right(examples, [3, 1, 4, 1, 5], hashed=hashed)

    assert isinstance(images, np.memmap) and len(images) == 4


def test_what_is_known_is_not_decoded_again(
    examples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_right(examples, [0, 1, 2])
    seen: list[str] = []

    def counted(path: str, spec: ImageSpec) -> np.ndarray:
        seen.append(Path(path).name)
        return load(path, spec)

    monkeypatch.setattr(decoded, "load", counted)
    assert_right(examples, [2, 1])
    assert_right(examples, [2, 7, 8])

    assert sorted(seen) == ["7.png", "8.png"]


def test_a_renamed_file_is_the_same_content_and_a_changed_one_another(examples: Path) -> None:
    data = examples.parents[3] / "data"
    assert_right(examples, [0, 1])
    (data / "0.png").rename(data / "20.png")
    Image.fromarray(np.full((9, 9), 77, np.uint8)).save(data / "1.png")

    assert len(assert_right(examples, [20])) == 2
    assert len(assert_right(examples, [20, 1])) == 3


def test_sizes_are_kept_apart(examples: Path) -> None:
    rows = table(examples, [0, 1])
    decoded.images(examples, rows, SPEC)

    images, places = decoded.images(examples, rows, ImageSpec(4, 4, 3))

    assert images[places].shape == (2, 4, 4, 3)
    assert_right(examples, [0, 1])


@pytest.mark.parametrize("name", ["pixels", "contents"])
@pytest.mark.parametrize("change", [-20, +20])
def test_what_a_crash_left_half_written_is_made_anew(
    examples: Path, name: str, change: int
) -> None:
    assert_right(examples, [0, 1, 2])
    file = store(examples) / name
    size = file.stat().st_size
    with file.open("ab") as stream:
        if change > 0:
            stream.write(b"7" * change)
        stream.truncate(size + change)

    assert_right(examples, [2, 1, 0])
    assert_right(examples, [5, 2])


def test_no_images_are_no_error(examples: Path) -> None:
    images, places = decoded.images(examples, table(examples, []), SPEC)

    assert images[places].shape == (0, 8, 6, 1)


def test_a_damaged_image_is_named_and_those_before_it_are_kept(examples: Path) -> None:
    broken = examples.parents[3] / "data" / "1.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:50])

    with pytest.raises(DataError, match=r"1\.png"):
        decoded.images(examples, table(examples, [0, 1, 2]), SPEC)

    broken.write_bytes(whole)
    assert_right(examples, [0, 1, 2])


def test_a_missing_image_is_named(examples: Path) -> None:
    rows = pa.table({"path": [str(examples.parents[3] / "data" / "99.png")]})

    with pytest.raises(DataError, match=r"cannot read .*99\.png"):
        decoded.images(examples, rows, SPEC)


def test_a_full_disk_keeps_nothing_and_loses_nothing(
    examples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoded, "FREE_SHARE", 0.0)

    images = assert_right(examples, [0, 1, 2])

    assert not isinstance(images, np.memmap)
    assert not decoded.has_room(examples, table(examples, [0, 1]), SPEC)
    assert not (store(examples) / "pixels").exists()


def test_progress_is_told(examples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(decoded, "AT_ONCE", 4)
    monkeypatch.setattr(decoded.announcer, "tell", lambda done, total: told.append((done, total)))

    assert_right(examples, list(range(10)))

    assert told == [(4, 10), (8, 10), (10, 10)]


MANY = """
import sys
import pyarrow as pa
from mlstack.inputs import decoded
from mlstack.inputs.images import ImageSpec
decoded.AT_ONCE = 1
examples, *paths = sys.argv[1:]
print("go", flush=True)
decoded.images(examples, pa.table({"path": paths}), ImageSpec(8, 6, 1))
"""


def start(examples: Path, numbers: list[int]) -> "subprocess.Popen[str]":
    paths = table(examples, numbers)["path"].to_pylist()
    command = [sys.executable, "-c", MANY, str(examples), *paths]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_several_processes_decode_each_image_once(examples: Path) -> None:
    numbers = [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 5, 6, 7], [7, 8, 9, 0]]
    processes = [start(examples, some) for some in numbers]

    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0, 0]

    for process in processes:
        assert process.stdout
        process.stdout.close()
    assert len(assert_right(examples, list(range(10)))) == 10


def test_a_killed_process_leaves_a_store_that_is_right(examples: Path) -> None:
    for number in range(4):
        process = start(examples, list(range(10)))
        assert process.stdout
        process.stdout.readline()
        try:
            process.wait(timeout=0.004 * number)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()

        assert_right(examples, [number, 9 - number])

    assert_right(examples, list(range(10)))
