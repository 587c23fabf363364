"""Nothing is sent anywhere, and nothing kept for sending, by the libraries below either."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from serving import CONFIG, make_image, make_package

import mlstack

TOLD = {name: value for name, value in os.environ.items() if name not in mlstack.SILENCING}


def left_in(home: Path) -> list[str]:
    return [path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()]


def test_onnxruntime_keeps_no_record_of_who_uses_it(tmp_path: Path) -> None:
    home, root = tmp_path / "home", tmp_path / "project"
    home.mkdir()
    root.mkdir()
    (root / "mlstack.yaml").write_text(CONFIG)
    make_package(root)
    make_image(root / "one.png", 7)

    subprocess.run(
        [sys.executable, "-m", "mlstack", "serve", "predict", "one.png"],
        cwd=root,
        env={**TOLD, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")},
        check=True,
        capture_output=True,
    )

    assert left_in(home) == []


@pytest.mark.parametrize("name", sorted(mlstack.SILENCING))
def test_who_wants_a_library_to_count_is_not_overruled(name: str) -> None:
    code = f"import mlstack, os; print(os.environ['{name}'])"

    said = subprocess.run(
        [sys.executable, "-c", code],
        env={**TOLD, name: "mine"},
        check=True,
        capture_output=True,
        text=True,
    )

    assert said.stdout == "mine\n"
