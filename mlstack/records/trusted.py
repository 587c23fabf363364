"""What must hold of a package, which may be anybody's, before anything in it is opened."""

from collections.abc import Iterable
from pathlib import Path

from mlstack.errors import DataError
from mlstack.records import base
from mlstack.records.base import Record
from mlstack.records.edge import EDGE
from mlstack.records.graph_safety import MAX_BYTES
from mlstack.records.lineage import Lineage
from mlstack.records.package import (
    MANIFEST,
    MODEL,
    SIDE,
    Golden,
    Manifest,
    Metrics,
    Parity,
    Signature,
    Tensor,
    verify_files,
)
from mlstack.records.reference import Reference

MAX_FILES = 10_000
MAX_EXAMPLES = 1000
MAX_OTHER_BYTES = 256 << 20
COPY = "copy the package and name the copy: `cp -r PACKAGE COPY`"
SIDES: dict[str, type[Record]] = {
    "signature": Signature,
    "lineage": Lineage,
    "metrics": Metrics,
    "parity": Parity,
    "reference": Reference,
    "golden": Golden,
}
NEEDED = (MODEL, "README.md", *(f"{SIDE}/{name}.json" for name in SIDES))
AGAIN = "export the run again"
# What `inputs` makes of a file, as a signature names it.
MADE = {"uint8": "UINT8", "int32": "INT32", "float32": "FP32"}
# As onnxruntime names types -> as the Open Inference Protocol does.
RUNTIME_TYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}


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
            f"the package's manifest names no `{missing[0]}`", hint=AGAIN, where=str(package)
        )
    _check_records(package, manifest)
    return manifest


def _check_records(package: Path, manifest: Manifest) -> None:
    """Read every record, and refuse those that contradict each other."""
    found = {name: base.read(package / SIDE / f"{name}.json", SIDES[name]) for name in SIDES}
    origin, signature, answers = found["lineage"], found["signature"], found["golden"]
    assert isinstance(origin, Lineage)
    assert isinstance(signature, Signature)
    assert isinstance(answers, Golden)
    if (origin.model, origin.run) != (manifest.model, manifest.run):
        raise _contradiction(package, f"lineage.json is that of run `{origin.run}`")
    if not signature.inputs or not signature.outputs:
        raise _contradiction(package, "signature.json names no inputs or no outputs")
    for tensor in signature.outputs:
        if tensor.name == "probabilities" and not _fits(tensor.shape, [-1, len(signature.classes)]):
            raise _contradiction(
                package,
                f"signature.json names {len(signature.classes)} classes, and probabilities of "
                f"shape {tensor.shape}",
            )
    check_answers(package, answers, signature)


def check_answers(package: Path, found: Golden, signature: Signature) -> None:
    """Refuse golden examples that answer other classes than the package has.

    Raises:
        DataError: they do.
    """
    for one in found.examples:
        if len(one.probabilities) != len(signature.classes):
            raise _contradiction(
                package,
                f"the golden example `{one.file}` has {len(one.probabilities)} probabilities, "
                f"the package {len(signature.classes)} classes",
            )
        if one.prediction not in signature.classes:
            raise _contradiction(
                package, f"the golden example `{one.file}` is `{one.prediction}`, which is no class"
            )


def tensor(name: str, kind: str, shape: Iterable[object]) -> Tensor:
    """Describe an input or output as onnxruntime has it.

    Raises:
        DataError: it is of a kind that nobody can send.
    """
    if kind not in RUNTIME_TYPES:
        raise DataError(f"`{name}` is a {kind}, which cannot be served")
    sizes = [size if isinstance(size, int) else -1 for size in shape]
    return Tensor(name=name, datatype=RUNTIME_TYPES[kind], shape=sizes)


def check_tensors(
    package: Path, signature: Signature, inputs: list[Tensor], outputs: list[Tensor]
) -> None:
    """Refuse a signature that names other tensors than the graph has.

    Raises:
        DataError: it does.
    """
    for kind, said, real in (
        ("input", signature.inputs, inputs),
        ("output", signature.outputs, outputs),
    ):
        is_same = len(said) == len(real) and all(
            (one.name, one.datatype) == (other.name, other.datatype)
            # A graph may leave the shape of an output to those who run it.
            and (not other.shape or _fits(one.shape, other.shape))
            for one, other in zip(said, real, strict=True)
        )
        if not is_same:
            names = ", ".join(f"{t.name} {t.datatype} {t.shape}" for t in real)
            raise _contradiction(package, f"the graph's {kind}s are {names}; its signature differs")


def check_input(package: Path, signature: Signature, kind: str, shape: list[int]) -> None:
    """Refuse a signature whose preprocessing makes something else than its one input.

    Args:
        package: named in the error.
        signature: whose `preprocess` is meant.
        kind: numbers that the preprocessing makes of a file, as numpy names them.
        shape: of one such input, without the batch.

    Raises:
        DataError: it does.
    """
    made = Tensor(name="", datatype=MADE[kind], shape=[-1, *shape])
    for taken in signature.inputs:
        if taken.datatype != made.datatype or not _fits(taken.shape, made.shape):
            raise _contradiction(
                package,
                f"`preprocess` makes {made.datatype} {made.shape}, the input `{taken.name}` is "
                f"{taken.datatype} {taken.shape}",
            )


def check_answered(package: Path, found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """Refuse a graph whose probabilities are not (rows, classes).

    Raises:
        DataError: they are not.
    """
    if found != wanted:
        raise _contradiction(
            package, f"the graph gives probabilities of shape {[*found]} instead of {[*wanted]}"
        )


def _fits(one: list[int], other: list[int]) -> bool:
    """Tell whether two shapes may be the same; -1 is any size."""
    return len(one) == len(other) and all(
        a == b or -1 in (a, b) for a, b in zip(one, other, strict=True)
    )


def _contradiction(package: Path, problem: str) -> DataError:
    return DataError(f"the package contradicts itself: {problem}", hint=AGAIN, where=str(package))


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
            hint=AGAIN,
        )
    for example in found.examples:
        if Path(example.file).name != example.file:
            raise DataError(
                f"the golden example `{example.file}` is not a file of the package", hint=AGAIN
            )
