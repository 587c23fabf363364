"""Which line of whose code an error came through, and which file is missing."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlstack.errors import ConfigError
from mlstack.launch.user_code import in_words, load_class


def fails(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    importlib.invalidate_caches()
    with pytest.raises(Exception) as raised:
        load_class("own_code.model:Net", root, key="model.class")
    return in_words(raised.value, root)


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let no test find the modules, or the paths, of the one before."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in [n for n in sys.modules if n.partition(".")[0] in ("own_code", "its_library")]:
        del sys.modules[name]


def test_what_is_installed_inside_the_project_is_not_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = ".venv/lib/python3.11/site-packages"
    monkeypatch.syspath_prepend(tmp_path / inside)
    library = {f"{inside}/its_library.py": "def scale(width):\n    return 1 / width\n"}
    model = {"own_code/model.py": "import its_library\n\nWIDTH = its_library.scale(0)\n"}

    said = fails(tmp_path, library | model)

    assert said == "own_code/model.py:3: ZeroDivisionError: division by zero"


def test_a_line_that_is_no_python_is_named(tmp_path: Path) -> None:
    said = fails(tmp_path, {"own_code/model.py": "import sys\ndef broken(:\n"})

    assert said.startswith("own_code/model.py:2: SyntaxError: ")


@pytest.mark.parametrize(
    ("files", "missing"),
    [
        ({"own_code/model.py": "import own_code.blocks\n"}, "own_code/blocks.py"),
        ({"own_code/__init__.py": ""}, "own_code/model.py"),
        ({}, "own_code/model.py"),
    ],
)
def test_the_file_that_is_missing_is_named(
    tmp_path: Path, files: dict[str, str], missing: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    importlib.invalidate_caches()

    with pytest.raises(ConfigError) as refused:
        load_class("own_code.model:Net", tmp_path, key="model.class")

    assert refused.value.hint == f"is there a file {missing} in {tmp_path}?"
