import pytest

from mlstack.pipeline.imports import imported_files


def write(root, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize(
    "line",
    [
        "import pkg.blocks",
        "import pkg.blocks as b",
        "from pkg import blocks",
        "from pkg.blocks import Block",
        "from . import blocks",
        "from .blocks import Block",
        "def late():\n    from .blocks import Block",
        "import importlib\nimportlib.import_module('pkg.blocks')",
        "if True:\n    import pkg.blocks",
    ],
)
def test_every_way_to_import_a_module_of_the_project_is_seen(tmp_path, line) -> None:
    write(tmp_path, {"pkg/__init__.py": "", "pkg/net.py": line, "pkg/blocks.py": "import deeper"})
    write(tmp_path, {"deeper.py": "", "pkg/unused.py": "", "other.py": ""})

    found = imported_files(tmp_path, ["pkg.net"])

    assert found == {"pkg/__init__.py", "pkg/net.py", "pkg/blocks.py", "deeper.py"}


def test_relative_imports_climb(tmp_path) -> None:
    write(tmp_path, {"a/__init__.py": "", "a/b/__init__.py": "", "a/b/net.py": "from ..c import x"})
    write(tmp_path, {"a/c.py": "from .b.d import y", "a/b/d.py": "", "a/b/e.py": ""})

    found = imported_files(tmp_path, ["a.b.net"])

    assert found == {"a/__init__.py", "a/b/__init__.py", "a/b/net.py", "a/c.py", "a/b/d.py"}


def test_packages_without_an_init_file_and_modules_that_import_each_other_are_followed(
    tmp_path,
) -> None:
    write(tmp_path, {"layers/blocks.py": "import net", "net.py": "import layers.blocks, torch"})

    assert imported_files(tmp_path, ["net"]) == {"net.py", "layers/blocks.py"}


def test_other_files_of_an_imported_package_count_but_not_what_is_for_people(tmp_path) -> None:
    write(tmp_path, {"pkg/__init__.py": "", "pkg/net.py": "", "pkg/words.txt": "a"})
    write(tmp_path, {"pkg/tables/t.json": "{}", "pkg/README.md": "", "pkg/look.ipynb": ""})
    write(tmp_path, {"pkg/__pycache__/net.pyc": "", "pkg/.hidden": "", "notes.txt": ""})

    found = imported_files(tmp_path, ["pkg.net"])

    assert found == {"pkg/__init__.py", "pkg/net.py", "pkg/words.txt", "pkg/tables/t.json"}


def test_a_broken_file_is_a_dependency_that_imports_nothing(tmp_path) -> None:
    write(tmp_path, {"net.py": "import other\ndef (", "other.py": ""})

    assert imported_files(tmp_path, ["net"]) == {"net.py"}


def test_a_module_that_is_installed_elsewhere_is_no_file_of_the_project(tmp_path) -> None:
    assert imported_files(tmp_path, ["torch.nn", "no_such_thing"]) == set()
