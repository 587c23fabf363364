"""A run's own data module and network -> a graph, and what it is to be measured against."""

import json
import re
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from pytorch_lightning import seed_everything
from torch import Tensor, nn

from mlstack import files
from mlstack.config import Config
from mlstack.errors import ConfigError, DataError, GateError
from mlstack.export.handover import MODEL_FP32, BuildRequest, Built, Part, Said, Stored
from mlstack.export.worker import clock, graph, untraced
from mlstack.export.worker.arrays import ArrayFile, opened
from mlstack.export.worker.weights import load_weights
from mlstack.inputs import texts
from mlstack.inputs.tasks import reads_rows
from mlstack.launch.user_code import construct, load_class
from mlstack.records import base, run
from mlstack.records import dataset as datasets
from mlstack.records.lineage import embedded
from mlstack.records.package import Tensor as Signed
from mlstack.records.variants import Times
from mlstack.records.worker import WorkerProgress

DATATYPES = {
    "|u1": "UINT8",
    "|i1": "INT8",
    "<i4": "INT32",
    "<i8": "INT64",
    "<f4": "FP32",
    "<f2": "FP16",
    "|b1": "BOOL",
}
TIMED = (1, 8, 32)
HALVES = {"BFloat16": "bfloat16", "Half": "float16"}  # as torch's errors call them


def build(request: BuildRequest) -> Iterator[Said]:
    """Load the run, keep the data module's batches and the module's answers, write the graph."""
    folder = Path(request.run_folder)
    spec = base.read(folder / run.SPEC, run.RunSpec)
    config = Config.model_validate(spec.config)
    seed_everything(spec.seed, workers=True, verbose=False)  # what INT8 is calibrated with
    data = load_data(request, spec, config)
    network = load_network(request, spec, config)
    recorder = Recorder(Path(request.folder), network, len(spec.classes))
    val = yield from recorder.part("val", data.val_dataloader())
    test = None
    if "test" in splits(folder):
        test = yield from recorder.part("test", data.test_dataloader())
    calibration = recorder.some(data.train_dataloader(), request.calibration)
    yield WorkerProgress(text="tracing the graph", done=0, total=1)
    name = graph.input_name(val.inputs)
    example = torch.from_numpy(np.array(opened(val.inputs)[:2]))
    given = getattr(data, "input_spec", None)
    preprocess = given.to_json() if given is not None else None
    is_text = preprocess is not None and preprocess["kind"] == "text"
    any_length = is_text and example.shape[1] > texts.STEP
    proto = graph.to_onnx(network, example, name, any_length=any_length)
    facts = {
        "model": request.model,
        "run": spec.id,
        "data": spec.dataset.md5,
        "classes": json.dumps(spec.classes),
        "precision": "fp32",
        "commit": spec.code.commit or "",
        "lineage": _lineage(request, spec),
    }
    files.write_bytes(Path(request.folder) / MODEL_FP32, graph.describe(proto, facts))
    yield Built(
        input=signed(name, val.inputs),
        outputs=[
            Signed(name=output, datatype="FP32", shape=[-1, len(spec.classes)])
            for output in ("logits", "probabilities")
        ],
        classes=spec.classes,
        parameters=sum(p.numel() for p in network.parameters()),
        val=val,
        test=test,
        calibration=calibration,
        preprocess=preprocess,
        any_length=any_length and graph.takes_any_length(proto),
        work=graph.work(proto, val.inputs.shape[1:]),
        training_times=_times(network, opened(val.inputs)),
    )


def _times(network: nn.Module, inputs: np.ndarray) -> list[Times]:
    """Time the module itself: what the graph's speed is compared with."""
    with torch.inference_mode():
        return clock.by_size(lambda rows: network(torch.from_numpy(rows)), inputs, TIMED)


def _lineage(request: BuildRequest, spec: run.RunSpec) -> str:
    record = embedded(spec, request.model, files.sha256(Path(request.checkpoint)))
    return msgspec.json.encode(record).decode()


def load_data(request: BuildRequest, spec: run.RunSpec, config: Config) -> Any:
    """Build the user's data module over the examples of the run, ready to be read."""
    if config.data.module is None:
        raise ConfigError("data.module is not set", hint="name your LightningDataModule there")
    offered = {
        "examples": str(Path(request.run_folder) / datasets.EXAMPLES),
        "batch_size": min(config.train.batch_size, 256),
        "num_classes": len(spec.classes),
        "seed": spec.seed,
    }
    if reads_rows(config.project.task):
        offered["label"] = config.data.label
    wanted = load_class(config.data.module, Path(request.root), key="data.module")
    data = construct(wanted, config.data.args, offered, key="data.args")
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    return data


def load_network(request: BuildRequest, spec: run.RunSpec, config: Config) -> nn.Module:
    """Build the user's module with the weights of the checkpoint, in eval mode.

    Raises:
        ConfigError: the checkpoint does not fit the class as it is now.
    """
    wanted = load_class(config.model.class_, Path(request.root), key="model.class")
    offered = {"num_classes": len(spec.classes)}
    network: nn.Module = construct(wanted, config.model.args, offered, key="model.args")
    try:
        network.load_state_dict(load_weights(request.checkpoint))
    except RuntimeError as error:
        commit = f"; run {spec.id} was made by commit {spec.code.commit}"
        raise ConfigError(
            f"the checkpoint does not fit `{config.model.class_}`: {_first_reason(error)}",
            hint="the code has changed since" + (commit if spec.code.commit else " the run"),
        ) from error
    return in_full_precision(network.cpu()).eval()


def in_full_precision(network: nn.Module) -> nn.Module:
    """Make the halves of a network FP32, which CPUs compute in; its FP64 stays as it is."""
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.dtype in (torch.float16, torch.bfloat16):
            tensor.data = tensor.data.float()
    return network


class Recorder:
    """Walk through loaders once: keep inputs, targets and the module's logits in files."""

    def __init__(self, folder: Path, network: nn.Module, classes: int) -> None:
        self._folder = folder
        self._network = network
        self._classes = classes

    def part(self, name: str, loader: Any) -> Generator[Said, None, Part]:
        """Record one part; the generator's value is the `Part`.

        Raises:
            DataError: the part is empty.
        """
        loader = _single(loader, name)
        paths = [self._folder / f"{name}-{what}.raw" for what in ("inputs", "targets", "logits")]
        total = len(loader)
        with (
            ArrayFile(paths[0]) as inputs,
            ArrayFile(paths[1]) as targets,
            ArrayFile(paths[2]) as logits,
        ):
            for done, (batch, truth) in enumerate(_pairs(loader), start=1):
                inputs.append(batch.numpy())
                targets.append(truth.numpy().astype(np.int64))
                logits.append(self._answers(batch))
                yield WorkerProgress(text=f"reading the {name} part", done=done, total=total)
            if not inputs.rows:
                raise DataError(f"the run has no examples in its {name} part")
            _refuse_probabilities(opened(logits.stored()))
            return Part(inputs=inputs.stored(), targets=targets.stored(), logits=logits.stored())

    def some(self, loader: Any, wanted: int) -> Stored | None:
        """Keep up to `wanted` training inputs."""
        if not wanted:
            return None
        with ArrayFile(self._folder / "calibration.raw") as inputs:
            for batch, _ in _pairs(_single(loader, "train")):
                inputs.append(batch[: wanted - inputs.rows].numpy())
                if inputs.rows >= wanted:
                    break
            return inputs.stored()

    def _answers(self, batch: Tensor) -> np.ndarray:
        with torch.inference_mode():
            try:
                logits = self._network(batch)
            except RuntimeError as error:
                _refuse_halves(error, self._network)
                raise
        wanted = (len(batch), self._classes)
        if not isinstance(logits, Tensor):
            raise ConfigError(
                f"model.class: forward gives a {type(logits).__name__}; it must give logits alone, "
                f"(batch, {self._classes})",
                hint="give what training needs beside them in a method that forward does not call",
            )
        if logits.shape != wanted:
            raise ConfigError(
                f"model.class: forward gives {tuple(logits.shape)} for a batch of {len(batch)}; "
                f"it must give logits of shape {wanted}, a number for each class",
                hint="`num_classes` in __init__ is filled in with how many there are",
            )
        answers = logits.float().numpy()
        if not np.isfinite(answers).all():
            raise GateError(
                "the trained model answers with numbers that are not finite",
                hint="train again with a lower learning rate",
            )
        return answers


def _refuse_halves(error: RuntimeError, network: nn.Module) -> None:
    """Say what is wrong where forward casts to halves by itself."""
    half = next((HALVES[word] for word in re.findall(r"\w+", str(error)) if word in HALVES), None)
    if half is not None:
        raise ConfigError(
            f"model.class: forward casts to {half}; a package has its weights in FP32",
            hint="cast to what the weights are in: `x.to(self.LAYER.weight.dtype)`",
            where=untraced.line([error], network),
        ) from error


def _refuse_probabilities(logits: np.ndarray) -> None:
    """Refuse a forward that ends in softmax: the graph's own makes such answers all alike.

    Of 0.99 and nine times 0.001 a second softmax makes 0.23 and nine times 0.086.
    """
    if (logits >= 0).all() and np.allclose(logits.sum(axis=1), 1, atol=1e-3):
        raise ConfigError(
            "model.class: forward gives probabilities; it must give logits, of which a package "
            "makes probabilities itself",
            hint="leave softmax out of forward (the weights stay right), and export again",
        )


def splits(run_folder: Path) -> set[str]:
    """Name the parts that have examples."""
    table = datasets.read_examples(run_folder / datasets.EXAMPLES)
    return set(table["split"].to_pylist())


def signed(name: str, inputs: Stored) -> Signed:
    """Describe the graph's input.

    Raises:
        ConfigError: no runtime takes such numbers.
    """
    datatype = DATATYPES.get(inputs.dtype)
    if datatype is None:
        raise ConfigError(f"data.module: inputs of type `{inputs.dtype}` cannot be packed")
    return Signed(name=name, datatype=datatype, shape=[-1, *inputs.shape[1:]])


def _single(loader: Any, part: str) -> Any:
    loaders = loader if isinstance(loader, list | tuple) else [loader]
    if len(loaders) != 1 or isinstance(loaders[0], dict):
        raise ConfigError(f"data.module: the {part} part must have exactly one loader")
    return loaders[0]


def _pairs(loader: Iterable[Any]) -> Iterator[tuple[Tensor, Tensor]]:
    for batch in loader:
        if not isinstance(batch, list | tuple) or len(batch) != 2:
            raise ConfigError("data.module: batches must be pairs (inputs, targets)")
        yield batch[0], batch[1]


def _first_reason(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines()[1:] if line.strip()]
    return (lines or [str(error)])[0][:200]
