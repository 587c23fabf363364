"""Checks of what is installed: packages, their versions, torch and onnxruntime at work."""

import os
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import msgspec
from packaging.requirements import Requirement

from mlstack.doctor.check import Check, fail, ok, warning
from mlstack.doctor.seen import OnnxSeen, TorchSeen
from mlstack.errors import MlstackError, StepError
from mlstack.launch.worker import run_worker

PACKAGE, WORKER = "mlstack", "mlstack.doctor.worker"
LIMIT_S = 120  # of a library; most of it is importing it
TRAIN = "pip install 'mlstack[train]'"
# What an extra is recognised by, and what it is for.
EXTRAS = {
    "train": ("pytorch_lightning", "train, tune and export"),
    "ray": ("ray", "several machines"),
    "s3": ("dvc_s3", "data versions in S3"),
    "postgres": ("psycopg", "one study on several machines"),
    "openvino": ("openvino", "export to OpenVINO"),
    "coreml": ("coremltools", "export to Core ML"),
    "executorch": ("executorch", "export to ExecuTorch"),
    "litert": ("ai_edge_litert", "export to LiteRT"),
}
PACKAGES_OF_ONNX = ("onnxruntime", "onnxruntime-gpu")
UPDATE = "update the NVIDIA driver"
Seen = TypeVar("Seen", TorchSeen, OnnxSeen)
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def packages() -> Check:
    """Compare what is installed with what mlstack asks for."""
    try:
        wanted = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        return warning(
            "packages", "mlstack runs from a folder and is not installed", "pip install ."
        )
    missing, unfit = [], []
    for line in wanted:
        requirement = Requirement(line)
        optional = "extra" in str(requirement.marker or "")
        if requirement.marker and not optional and not requirement.marker.evaluate():
            continue
        version = _version(requirement.name)
        if version is None:
            missing += [] if optional else [requirement.name]
        elif not requirement.specifier.contains(version, prereleases=True):
            unfit.append(f"{requirement.name} {version} (needs {requirement.specifier})")
    if missing:
        return fail("packages", f"missing: {', '.join(missing)}", "pip install -U mlstack")
    if unfit:
        return warning(
            "packages", f"do not fit: {', '.join(unfit)}", "pip install -U 'mlstack[all]'"
        )
    return ok("packages", "everything that mlstack needs is there and fits")


def versions() -> Check:
    """Compare what mlstack uses with what those packages ask of each other."""
    used = {Requirement(line).name for line in _asked(PACKAGE)}
    unfit = []
    for name in sorted(used):
        for line in _asked(name):
            asked = Requirement(line)
            if "extra" in str(asked.marker or "") or (asked.marker and not asked.marker.evaluate()):
                continue
            version = _version(asked.name)
            if version and not asked.specifier.contains(version, prereleases=True):
                unfit.append((f"{name} wants {asked.name}{asked.specifier}, not {version}", asked))
    if unfit:
        words = " ".join(f"'{asked.name}{asked.specifier}'" for _, asked in unfit)
        return warning("versions", "; ".join(said for said, _ in unfit), f"pip install {words}")
    there = sum(_version(name) is not None for name in used)
    return ok("versions", f"{there} packages and what they ask of each other fit together")


def _asked(package: str) -> list[str]:
    """List what a package requires; nothing of one that is not installed."""
    try:
        return metadata.requires(package) or []
    except metadata.PackageNotFoundError:
        return []


def extras() -> Check:
    """Name the extras that are installed, and what the others are for."""
    there = [name for name, (module, _) in EXTRAS.items() if find_spec(module)]
    absent = [f"{name} ({use})" for name, (_, use) in EXTRAS.items() if name not in there]
    detail = f"installed: {', '.join(there) or 'none'}; not: {', '.join(absent) or 'none'}"
    return ok("extras", detail) if "train" in there else warning("extras", detail, TRAIN)


def runtimes(gpus: int) -> Check:
    """Refuse two onnxruntimes: they overwrite each other's files."""
    there = [name for name in PACKAGES_OF_ONNX if _version(name)]
    if len(there) < 2:
        return ok("onnxruntime packages", there[0] if there else "none")
    keep = "onnxruntime-gpu" if gpus else "onnxruntime"
    return fail(
        "onnxruntime packages",
        "both onnxruntime and onnxruntime-gpu are installed; one hides the other",
        f"pip uninstall -y onnxruntime onnxruntime-gpu && pip install {keep}",
    )


def torch(gpus: int) -> Iterator[Check]:
    """Let torch compute on every GPU that the driver shows."""
    if find_spec("torch") is None:
        yield warning("torch", "not installed; serving and labeling do not need it", TRAIN)
        return
    seen = _torch_seen()
    if not seen.version:
        yield fail("torch", seen.problem, "pip install --force-reinstall torch")
        return
    if seen.problem:
        yield fail("torch", seen.problem, way_to_compute(seen))
        return
    build = f"CUDA {seen.cuda}" if seen.cuda else "CPU only"
    used = f", computes on {len(seen.gpus)} of {gpus} GPUs" if gpus else ""
    detail = f"{seen.version} ({build}){used}"
    if len(seen.gpus) < gpus:
        yield fail("torch", detail, UPDATE if seen.cuda else "pip install a CUDA build of torch")
    else:
        yield ok("torch", detail)
    if seen.vision_problem:
        yield fail(
            "torchvision", seen.vision_problem, "install torch and torchvision from the same place"
        )


def way_to_compute(seen: TorchSeen) -> str:
    """Say what to do about a GPU on which torch does not compute."""
    if "out of memory" in seen.problem:
        return "nvidia-smi says who uses it; wait for them, or end them"
    return f"{UPDATE}, or install the build of torch that is for this GPU"


def onnxruntime(gpus: int) -> Iterator[Check]:
    """Let onnxruntime compute on the CPU, and on a GPU if there is one."""
    seen = _onnxruntime_seen()
    said = seen.problem or seen.problems.get(CPU, "it offers no CPU")
    if said:
        package = next(filter(_version, PACKAGES_OF_ONNX), PACKAGES_OF_ONNX[0])
        yield fail("onnxruntime", said, f"pip install --force-reinstall {package}")
        return
    yield ok("onnxruntime", f"{seen.version}, computes on the CPU")
    if gpus:
        yield _onnxruntime_on_gpu(seen)


def _onnxruntime_on_gpu(seen: OnnxSeen) -> Check:
    name = "onnxruntime on GPU"
    said = seen.problems.get(CUDA, "this onnxruntime is built without CUDA")
    if not said:
        return ok(name, "computes on the GPU")
    return warning(
        name,
        f"{said}; serving uses the CPU, and --device gpu is refused",
        "pip install -U 'onnxruntime-gpu[cuda,cudnn]'",
    )


def _torch_seen() -> TorchSeen:
    try:
        return _ask("torch", TorchSeen)
    except MlstackError as error:  # it died; that is the finding
        return TorchSeen(problem=error.problem)


def _onnxruntime_seen() -> OnnxSeen:
    try:
        return _ask("onnxruntime", OnnxSeen)
    except MlstackError as error:
        return OnnxSeen(problem=error.problem)


def _ask(library: str, kind: type[Seen]) -> Seen:
    """Ask a process that ends itself by SIGALRM when it takes too long: a driver may hang."""
    decode = msgspec.json.Decoder(kind).decode
    try:
        (seen,) = run_worker(WORKER, [library, str(LIMIT_S)], decode, Path(os.devnull))
    except StepError as error:
        if "SIGALRM" in error.problem:
            raise StepError(f"{library} does not answer within {LIMIT_S} s") from error
        raise
    return seen


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
