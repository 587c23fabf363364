"""What must hold of a package, which may be anybody's, before anything in it is opened."""

from pathlib import Path

from mlstack.errors import DataError
from mlstack.records import base
from mlstack.records.edge import EDGE
from mlstack.records.graph_safety import MAX_BYTES
from mlstack.records.package import MANIFEST, MODEL, SIDE, Golden, Manifest, verify_files

MAX_FILES = 10_000
MAX_EXAMPLES = 1000
MAX_OTHER_BYTES = 256 << 20
COPY = "copy the package and name the copy: `cp -r PACKAGE COPY`"
NEEDED = (MODEL, f"{SIDE}/signature.json", f"{SIDE}/golden.json")


def check(package: Path) -> Manifest:
    """Check that a package is whole and unchanged, and that nothing in it leads elsewhere.

    Raises:
        DataError: it is not.
    """
    if not (package / SIDE / MANIFEST).is_file():
        raise DataError(
            f"`{package}` is not a model package: there is no {SIDE}/{MANIFEST}",
            hint="name a folder like models/NAME/N",
        )
    _check_files(package)
    manifest = verify_files(package)
    missing = [name for name in NEEDED if name not in manifest.files]
    if missing:
        raise DataError(
            f"the package's manifest names no `{missing[0]}`",
            hint="export the run again",
            where=str(package),
        )
    return manifest


def _check_files(package: Path) -> None:
    """Refuse links and sizes that no package has, before anything is hashed or parsed."""
    for count, path in enumerate(package.rglob("*"), start=1):
        if count > MAX_FILES:
            raise DataError(
                f"`{package}` holds more than {MAX_FILES:,} files",
                hint="name the folder of one package, like models/NAME/N",
            )
        if not path.is_symlink() and path.is_dir():
            continue
        if path.is_symlink() or not path.is_file():
            raise DataError(
                f"`{path}` is a link or a device; a package holds plain files only",
                hint="export the run again, or ask for the package as plain files",
            )
        # mlstack and its use of DVC copy packages. A file with a second name can change by that
        # name after its hash was compared, and may lie anywhere.
        if path.stat().st_nlink > 1:
            raise DataError(
                f"`{path}` has another name elsewhere (a hard link); a package is refused "
                "whose files could be changed from there",
                hint=COPY,
            )
        is_model = path.suffix == ".onnx" or EDGE in path.relative_to(package).parts
        limit = MAX_BYTES if is_model else MAX_OTHER_BYTES
        if path.stat().st_size > limit:
            raise DataError(
                f"`{path}` has {path.stat().st_size:,} bytes; at most {limit:,} are opened",
                hint="export a smaller model, or remove what does not belong to the package",
            )


def golden(package: Path, *, least: int = 1) -> Golden:
    """Read the golden examples of a package that may be anybody's.

    Raises:
        DataError: there are none, too many, or one that is not in the package.
    """
    found = base.read(package / SIDE / "golden.json", Golden)
    check_examples(package, found, least=least)
    return found


def check_examples(package: Path, found: Golden, *, least: int = 1) -> None:
    """Refuse golden examples that are too few or too many, or that lie elsewhere.

    Raises:
        DataError: they do.
    """
    if not least <= len(found.examples) <= MAX_EXAMPLES:
        raise DataError(
            f"`{package}` has {len(found.examples):,} golden examples; {least} to "
            f"{MAX_EXAMPLES:,} are answered",
            hint="export the run again",
        )
    for example in found.examples:
        if Path(example.file).name != example.file:
            raise DataError(
                f"the golden example `{example.file}` is not a file of the package",
                hint="export the run again",
            )
