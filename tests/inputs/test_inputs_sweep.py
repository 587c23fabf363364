"""Decoded images that nothing needs are forgotten; what is mapped or comes in meanwhile is not."""

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from mlstack import files
from mlstack.inputs import decoded
from mlstack.inputs.images import ImageSpec, load
from mlstack.inputs.sweep import UNUSED_DAYS, sweep

SPEC, OTHER = ImageSpec(8, 6, 1), ImageSpec(4, 4, 3)
LINE = 33


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Lay out a project with twelve pictures, decoded in two sizes."""
    (tmp_path / "data").mkdir()
    noise = np.random.default_rng(3)
    for number in range(12):
        pixels = noise.integers(0, 255, (12, 9), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / f"{number}.png")
    for spec in (SPEC, OTHER):
        decoded.images(tmp_path / ".mlstack" / "x", table(tmp_path), spec)
    return tmp_path


def table(root: Path, numbers: range = range(12)) -> pa.Table:
    paths = [root / "data" / f"{number}.png" for number in numbers]
    return pa.table({"path": list(map(str, paths)), "md5": [files.md5(one) for one in paths]})


def wanted(root: Path, numbers: range) -> set[str]:
    return set(table(root, numbers)["md5"].to_pylist())


def stores(root: Path) -> list[str]:
    return sorted(one.name for one in (root / ".mlstack" / "decoded").iterdir() if one.is_dir())


def assert_right(root: Path, numbers: range, spec: ImageSpec = SPEC) -> np.ndarray:
    rows = table(root, numbers)
    images, places = decoded.images(root / ".mlstack" / "x", rows, spec)
    assert np.array_equal(
        images[places], np.stack([load(one, spec) for one in rows["path"].to_pylist()])
    )
    return images


def test_what_is_spare_is_counted_first_and_then_freed(project: Path) -> None:
    state, needed = project / ".mlstack", wanted(project, range(5, 8))
    each = 8 * 6 + LINE + 4 * 4 * 3 + LINE

    counted = sweep(state, needed, delete=False)
    whole = len(assert_right(project, range(12)))
    freed = sweep(state, needed, delete=True)
    again = sweep(state, needed, delete=True)

    assert counted == freed
    assert (freed.needed_bytes, freed.spare_bytes) == (3 * each, 9 * each)
    assert (again.needed_bytes, again.spare_bytes) == (3 * each, 0)
    assert whole == 12
    assert len(assert_right(project, range(5, 8))) == 3


def test_what_was_forgotten_is_decoded_again(project: Path) -> None:
    sweep(project / ".mlstack", wanted(project, range(3)), delete=True)

    assert_right(project, range(12))
    assert_right(project, range(12), OTHER)


def test_who_has_mapped_the_images_keeps_them_until_the_end(project: Path) -> None:
    images = assert_right(project, range(12))
    before = images.copy()

    sweep(project / ".mlstack", set(), delete=True)

    assert stores(project) == []
    assert np.array_equal(images, before)


def test_a_size_that_nobody_has_used_for_long_goes_as_a_whole(project: Path) -> None:
    long_ago = time.time() - (UNUSED_DAYS + 1) * 86_400
    folder = project / ".mlstack" / "decoded"
    for place in (folder / "8x6x1-2.lock", *(folder / "8x6x1-2").iterdir()):
        os.utime(place, (long_ago, long_ago))
    for place in (folder / "4x4x3-2").iterdir():
        os.utime(place, (long_ago, long_ago))
    assert_right(project, range(1), OTHER)  # which is a use, though nothing is written

    sweep(project / ".mlstack", wanted(project, range(12)), delete=True)

    assert stores(project) == ["4x4x3-2"]


def test_what_another_decoder_or_a_killed_sweep_left_goes(project: Path) -> None:
    folder = project / ".mlstack" / "decoded"
    for left in ("8x6x1-0", ".8x6x1-2.0a1b2c3d"):
        shutil.copytree(folder / "8x6x1-2", folder / left)

    sweep(project / ".mlstack", wanted(project, range(12)), delete=True)

    assert stores(project) == ["4x4x3-2", "8x6x1-2"]
    assert_right(project, range(12))


def test_a_store_that_is_being_written_is_left_alone(project: Path) -> None:
    state = project / ".mlstack"
    with files.lock(state / "decoded" / "8x6x1-2.lock", "decoding images"):
        swept = sweep(state, set(), delete=True)

    assert stores(project) == ["8x6x1-2"]
    assert swept.needed_bytes == 12 * (8 * 6 + LINE)
    assert_right(project, range(12))


def test_a_disk_without_room_for_a_copy_loses_the_store_and_no_image(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlstack.inputs.sweep.FREE_SHARE", 0.0)

    sweep(project / ".mlstack", wanted(project, range(5)), delete=True)

    assert stores(project) == []
    assert_right(project, range(12))


def test_a_project_without_decoded_images_has_nothing_to_forget(tmp_path: Path) -> None:
    swept = sweep(tmp_path / ".mlstack", set(), delete=True)

    assert (swept.needed_bytes, swept.spare_bytes) == (0, 0)


def test_names_and_pixels_are_never_those_of_two_folders(project: Path) -> None:
    folder = project / ".mlstack" / "decoded" / "8x6x1-2"
    with decoded.opened(folder) as file_of:
        file_of("contents").close()
        sweep(project / ".mlstack", wanted(project, range(5)), delete=True)
        with pytest.raises(FileNotFoundError):  # not the pixels of the folder that came instead
            file_of("pixels")

    assert (folder / "pixels").is_file()


def test_images_are_right_while_others_are_forgotten_all_the_time(project: Path) -> None:
    over = threading.Event()

    def forget() -> None:
        turn = 0
        while not over.is_set():
            turn += 1
            sweep(project / ".mlstack", wanted(project, range(turn % 12)), delete=True)

    forgetting = threading.Thread(target=forget)
    forgetting.start()
    try:
        for turn in range(40):
            assert_right(project, range(turn % 7, 12))
    finally:
        over.set()
        forgetting.join()


FORGET = """
import sys
from pathlib import Path
from mlstack.inputs.sweep import sweep
print("go", flush=True)
sweep(Path(sys.argv[1]), sys.argv[2:], delete=True)
"""


def test_a_sweep_that_is_killed_leaves_stores_that_are_right(project: Path) -> None:
    needed = wanted(project, range(6))
    for number in range(5):
        words = [sys.executable, "-c", FORGET, str(project / ".mlstack"), *needed]
        process = subprocess.Popen(words, stdout=subprocess.PIPE)
        assert process.stdout
        process.stdout.readline()
        time.sleep(0.002 * number)
        process.kill()
        process.communicate()

        assert_right(project, range(12))
        assert_right(project, range(12), OTHER)
