"""The rules of the house that no tool checks."""

import ast
import re
import subprocess
import symtable
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer.main

from mlstack import errors
from mlstack.call import DEFAULT
from mlstack.cli import assemble

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "mlstack").rglob("*.py"))
HEAVY = {
    "torch", "pytorch_lightning", "onnxruntime", "onnx", "dvc", "optuna", "duckdb",
    "numpy", "pyarrow", "rich", "ruamel", "msgspec", "httpx", "uvicorn", "starlette",
}  # fmt: skip
PROBE = """
import sys
from mlstack.cli import main
sys.argv = ["mlstack", *{words!r}, "--help"]
try:
    main()
except SystemExit as end:
    print("LOADED", *sorted(m for m in sys.modules if "." not in m))
    sys.exit(end.code)
"""


def command_paths() -> list[tuple[str, ...]]:
    """List every command, e.g. ("train", "ls")."""
    found: list[tuple[str, ...]] = [()]
    for name, command in typer.main.get_command(assemble()).commands.items():  # type: ignore[attr-defined]
        found.append((name,))
        found += [(name, sub) for sub in getattr(command, "commands", {}) if sub != DEFAULT]
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_fits_five_hundred_lines(path: Path):
    assert len(path.read_text().splitlines()) <= 500


def test_no_archive_is_unpacked_into_a_folder():
    """Names inside an archive may lead out of the folder it is unpacked into."""
    pattern = re.compile(r"\b(?:TarFile|tarfile\.open|extractall|unpack_archive)\b|\.extract\(")

    found = [str(p.relative_to(ROOT)) for p in MODULES if pattern.search(p.read_text())]

    assert not found


@pytest.mark.parametrize("words", command_paths(), ids=" ".join)
def test_help_loads_no_heavy_library(words: tuple[str, ...]):
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(words=list(words))],
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    loaded = set(done.stdout.rpartition("LOADED")[2].split())

    assert not loaded & HEAVY
    assert "Usage: mlstack" in done.stdout


def test_every_error_class_has_an_exit_code_of_its_own():
    classes = errors.MlstackError.__subclasses__()

    codes = [c.exit_code for c in classes]

    assert sorted(codes) == [1, 2, 3, 4, 6, 75, 130]


def test_no_exception_class_is_defined_outside_the_error_tree_and_workers():
    pattern = re.compile(r"^class \w+\((?:\w*Error|\w*Exception|BaseException)\)", re.M)

    guilty = [
        p
        for p in MODULES
        if p.name != "errors.py" and "worker" not in p.parts and pattern.search(p.read_text())
    ]

    assert not guilty


def test_the_generated_docs_are_what_the_code_says():
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", sorted((ROOT / "templates").glob("*/my_project/*.py")))
def test_the_users_own_code_fits_a_screen_or_two(path: Path):
    assert len(path.read_text().splitlines()) <= 65


def test_the_changelog_names_the_version_of_the_package():
    import mlstack

    assert f"## {mlstack.__version__}" in (ROOT / "CHANGELOG.md").read_text()


@cache
def names_of(module: str) -> set[str]:
    """List what a module of ours binds, and its submodules; empty for no module."""
    path = ROOT.joinpath(*module.split("."))
    inside = {p.stem for p in path.iterdir()} if path.is_dir() else set()
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not file.is_file():
        return set()
    symbols = symtable.symtable(file.read_text(), str(file), "exec").get_symbols()
    return inside | {s.get_name() for s in symbols if s.is_assigned() or s.is_imported()}


def missing_names(tree: ast.Module) -> Iterator[str]:
    """Find the names that a file takes from our modules and that those do not bind."""
    nodes = list(ast.walk(tree))
    own = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    own |= {n.arg for n in nodes if isinstance(n, ast.arg)}
    bound: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mlstack":
            for alias in node.names:
                bound[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                if alias.name not in names_of(str(node.module)):
                    yield f"{node.module}.{alias.name}"
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = bound.get(node.value.id, "")
            known = names_of(module) if module and node.value.id not in own else set()
            if known and node.attr not in known and not node.attr.startswith("__"):
                yield f"{module}.{node.attr}"


@pytest.mark.parametrize("folder", ["tests", "benchmarks", "demo", "docs"])
def test_no_file_beside_the_package_uses_a_name_that_is_gone(folder: str):
    """mypy reads the package alone; a benchmark is run by hand, weeks later."""
    gone = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name in missing_names(ast.parse(path.read_text()))
    }

    assert not gone


def test_a_name_that_is_gone_is_found():
    lines = "from mlstack.records import requests, nothing\nrequests.GONE\nrequests.schema([])"

    assert list(missing_names(ast.parse(lines))) == [
        "mlstack.records.nothing",
        "mlstack.records.requests.GONE",
    ]
