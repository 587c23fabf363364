"""Which files of the project a module imports, read from source: nothing of the user's runs.

Followed are `import a.b`, `from a import b` (where `b` may be a module), relative imports, and
texts that are the dotted name of a module of the project, as `importlib.import_module("a.b")` has
them. Files of other kinds inside a package of which something is imported count as well: code may
read them. What code finds by itself at run time is not seen.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

HIDDEN = ("__pycache__",)
NOT_READ = (".py", ".pyc", ".md", ".rst", ".ipynb")  # imported if at all, or for people


def imported_files(root: Path, modules: list[str]) -> set[str]:
    """List the project's files that these modules import, directly or through others.

    Args:
        root: the project.
        modules: dotted names; those that are installed elsewhere are no files of the project.

    Returns:
        Paths relative to the project, with forward slashes.
    """
    waiting = list(modules)
    seen: set[str] = set()
    found: set[Path] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for module, path in _files_of(root, name):
            if path not in found:
                found.add(path)
                waiting.extend(_imports(path, module))
    for folder in {path.parent for path in found} - {root}:
        found.update(_others(folder))
    return {path.relative_to(root).as_posix() for path in found}


def _files_of(root: Path, name: str) -> Iterator[tuple[str, Path]]:
    """Yield a module's own file and the `__init__.py` of every package above it."""
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        dotted = ".".join(parts[:length])
        place = root.joinpath(*parts[:length])
        if (place / "__init__.py").is_file():
            yield dotted, place / "__init__.py"
        elif place.with_name(f"{place.name}.py").is_file():
            yield dotted, place.with_name(f"{place.name}.py")


def _imports(path: Path, module: str) -> Iterator[str]:
    """Yield the dotted names that a file imports; a broken file imports nothing."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom():
                yield from _from(node, package)
            case ast.Constant(value=str() as text) if _is_dotted(text):
                yield text


def _from(node: ast.ImportFrom, package: str) -> Iterator[str]:
    base = node.module or ""
    if node.level:
        parts = package.split(".")
        kept = parts[: len(parts) - node.level + 1]
        base = ".".join([*kept, *([node.module] if node.module else [])])
    yield base
    yield from (f"{base}.{alias.name}" for alias in node.names if alias.name != "*")


def _is_dotted(text: str) -> bool:
    return "." in text and all(part.isidentifier() for part in text.split("."))


def _others(folder: Path) -> Iterator[Path]:
    """Yield the files of a package that are not Python, those of plain folders in it included."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name in HIDDEN:
            continue
        if path.is_file() and path.suffix not in NOT_READ:
            yield path
        elif path.is_dir() and not any(path.glob("*.py")):
            yield from _others(path)
