"""What is to be exported; refused early when it cannot be."""

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from mlstack import files, packed
from mlstack.config import Project, refuse_unbuilt
from mlstack.errors import ConfigError, DataError, MachineError
from mlstack.export import apart, budget, divided, expected, kinds, signature
from mlstack.export.budget import Budget
from mlstack.export.formats import FORMATS
from mlstack.export.handover import Expected, Rival
from mlstack.launch import moved
from mlstack.launch.at_work import up_to_date
from mlstack.plurals import counted
from mlstack.records import dataset, dvc, run
from mlstack.records.dataset_hash import hash_dataset, is_packed
from mlstack.records.layout import Layout

PRECISIONS = ("auto", "fp32", "fp16", "int8")


@dataclass(frozen=True)
class Order:
    """What is exported, from where, and what it is called."""

    project: Project
    spec: run.RunSpec
    folder: Path  # of the run
    checkpoint: Path
    checkpoint_sha256: str
    precision: str  # auto, fp32, fp16, int8, int8-static or int8-dynamic
    budget: Budget
    expected: list[Expected]
    mlflow: bool = False  # write what MLflow reads, too
    formats: tuple[str, ...] = ()  # beside ONNX
    key: Path | None = None  # that signs the manifest
    converter: str = ""  # the Python of a converter that is not beside mlstack
    live: Rival | None = None  # the package that the new one must not be worse than
    notes: tuple[str, ...] = ()  # what to know before it is exported

    @property
    def model(self) -> str:
        """Name the model."""
        return self.project.config.project.name

    @property
    def target(self) -> str:
        """Say where the package will run."""
        return self.project.config.export.target

    @property
    def log(self) -> Path:
        """Give the file where the workers' stderr goes."""
        return self.folder / "logs" / "export.log"


@dataclass(frozen=True)
class Wish:
    """What was typed; empty where the settings decide."""

    run: str | None = None
    precision: str = ""
    formats: str = ""
    budget: str = ""
    mlflow: bool = False
    key: Path | None = None


def order(project: Project, wish: Wish) -> Order:
    """Check everything that can be checked before something heavy starts."""
    formats = _formats(project, wish.formats)
    if wish.key is not None:
        signature.check_key(wish.key)
    limits = _budget(project, wish.budget)
    kind = _precision(project, wish.precision, limits)
    examples = expected.read(project)
    layout = Layout(project.root)
    run_id = run.find_run(layout.runs, wish.run)
    folder = layout.run(run_id)
    spec = moved.spec_here(project.root, run_id)
    _check_finished(folder, spec)
    _check_data(project.root / spec.dataset.source)
    _check_files(spec, folder, f"{project.root / spec.dataset.source}/")
    divided.check(spec, folder)
    checkpoint = _checkpoint(folder)
    _check_installed()
    converter = str(apart.check(project)) if any(FORMATS[f].is_apart for f in formats) else ""
    files.write_bytes(folder / "logs" / "export.log", b"")
    digest = _sha256(folder, checkpoint)
    return Order(
        project=project,
        spec=spec,
        folder=folder,
        checkpoint=checkpoint,
        checkpoint_sha256=digest,
        precision=kind,
        budget=limits,
        expected=examples,
        mlflow=wish.mlflow,
        formats=formats,
        key=wish.key,
        converter=converter,
        notes=tuple(_notes(project.root, spec)),
    )


def _budget(project: Project, typed: str) -> Budget:
    if typed:
        return budget.parse(typed)
    return budget.parse(project.config.export.budget, key="export.budget")


def _formats(project: Project, typed: str) -> tuple[str, ...]:
    """Name the formats beside ONNX: the flag's, else those of the settings; each once."""
    names = [n.strip() for n in typed.split(",") if n.strip()] or [
        f.value for f in project.config.export.formats
    ]
    for name in names:
        if name != "onnx":
            check_format(name)
    refuse_unbuilt(project, "export")
    return tuple(dict.fromkeys(name for name in names if name != "onnx"))


def check_format(name: str) -> None:
    """Refuse a format that is not there, or whose library is not.

    Raises:
        ConfigError: there is no such format.
        MachineError: its extra is missing.
    """
    if name not in FORMATS:
        known = ", ".join(("onnx", *FORMATS))
        raise ConfigError(f"--format: there is no format `{name}`", hint=f"choose of {known}")
    library = FORMATS[name].library
    if importlib.util.find_spec(library) is None:
        raise MachineError(
            f"the format `{name}` needs {library}", hint=f"pip install 'mlstack[{name}]'"
        )


def check_runs(name: str) -> None:
    """Refuse a format that cannot be run here.

    Raises:
        ConfigError: there is no such format.
        MachineError: its extra is missing, or this machine does not run it.
    """
    check_format(name)
    if FORMATS[name].unverified:
        raise MachineError(
            f"`{name}` cannot be replayed: {FORMATS[name].unverified}",
            hint="compare by hand what mlstack/edge.json says that it must answer (docs/edge.md)",
        )


def _precision(project: Project, wanted: str, limits: Budget) -> str:
    """Decide the precision: the flag, else `export.quantize`; a budget alone tries all."""
    if wanted and wanted not in PRECISIONS:
        raise ConfigError(
            f"--precision: there is no precision `{wanted}`",
            hint=f"choose of {', '.join(PRECISIONS)}",
        )
    set_to = project.config.export.quantize
    if not wanted and set_to == "none":
        return "auto" if limits.limits else "fp32"
    kind, target = wanted or set_to, project.config.export.target
    if kind == "fp16" and target not in kinds.ON_GPU:
        raise ConfigError(
            f"{'--precision' if wanted else 'export.quantize'}: fp16 is for GPUs, and "
            f"`export.target` is {target}, where it is slower than fp32",
            hint="add --set export.target=gpu, or choose int8",
        )
    return kind


def _check_finished(folder: Path, spec: run.RunSpec) -> None:
    summary = up_to_date(folder, run.summarise(folder))
    if summary.state != "finished":
        hints = {
            "running": "wait for it to end",
            "queued": "its job has its turn still to come; wait for it to end",
            "failed": f"type `mlstack train show {spec.id}` to see why",
        }
        raise DataError(
            f"run `{spec.id}` is {summary.state}; only a finished run is exported",
            hint=hints.get(summary.state, f"type `mlstack train --resume {spec.id}`"),
        )
    if spec.mode != "fit":
        raise DataError(f"run `{spec.id}` was only a check", hint="type `mlstack train`")


def _check_data(source: Path) -> None:
    """Refuse to begin without the data that the graph is measured on."""
    if dvc.is_gone(source) and not is_packed(source):
        raise DataError(
            f"there is no data in `{source}`; the graph is measured on it",
            hint=dvc.bring_back(source),
        )


def _notes(root: Path, spec: run.RunSpec) -> Iterator[str]:
    """Say that the data is not that of the run any more; what is packed has not learned from it."""
    then, now = spec.dataset.md5, hash_dataset(root, spec.dataset.source).md5
    if now != then:
        yield (
            f"the data in `{spec.dataset.source}` has changed since run {spec.id} was trained "
            f"(version {then[:8]} then, {now[:8]} now); `mlstack train` learns from it"
        )


def _check_files(spec: run.RunSpec, folder: Path, below: str) -> None:
    """Refuse to begin without the files of the run's own examples: the data has gone on since."""
    paths = pc.unique(dataset.read_examples(folder / dataset.EXAMPLES)["path"]).to_pylist()
    data = [Path(path) for path in paths if path.startswith(below)]
    gone = [path for path in data if not path.is_file() and not packed.is_packed(path)]
    if gone:
        revision = (spec.dataset.revision or "")[:10]
        raise DataError(
            f"{counted(len(gone), 'file is gone', 'files are gone')} that run `{folder.name}` "
            f"learned from or is measured on, e.g. `{gone[0]}`",
            hint=f"`mlstack version checkout {revision}` brings its data back; or train again"
            if revision
            else "bring it back, or train again",
        )


def _checkpoint(folder: Path) -> Path:
    for name in (run.BEST, run.LAST):
        if (folder / run.CHECKPOINTS / name).is_file():
            return folder / run.CHECKPOINTS / name
    raise DataError(f"run `{folder.name}` has no checkpoint", hint="train it again")


def _sha256(folder: Path, checkpoint: Path) -> str:
    """Hash the checkpoint; refuse one that is not what the run wrote."""
    found = files.sha256(checkpoint)
    name = checkpoint.relative_to(folder).as_posix()
    saved = [e for e in run.read_events(folder) if isinstance(e, run.CheckpointSaved)]
    known = [e.sha256 for e in saved if e.file == name and e.sha256]
    if known and known[-1] != found:
        raise DataError(
            f"`{name}` of run `{folder.name}` is not the file that the run wrote",
            hint="train it again",
            where=str(checkpoint),
        )
    return found


def _check_installed() -> None:
    for library in ("torch", "pytorch_lightning", "onnx", "onnxscript"):
        if importlib.util.find_spec(library) is None:
            raise MachineError(
                f"`mlstack export` needs {library}", hint="pip install 'mlstack[train]'"
            )
