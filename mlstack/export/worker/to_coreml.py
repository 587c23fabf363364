"""`python -m mlstack.export.worker.to_coreml REQUEST`: the module as a package of Core ML.

Made from torch, for one row a call, in FP32. Core ML has no UINT8: integers are taken as INT32.
Only macOS runs the result, so what can be checked here is that the module answers the same to it.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import coremltools
import torch
from torch import Tensor

from mlstack import files
from mlstack.export.handover import Converted, ConvertRequest, Said
from mlstack.export.worker import program
from mlstack.export.worker.channel import answer
from mlstack.export.worker.session import first_line
from mlstack.records.worker import WorkerProgress

NAME = "fp32.mlpackage"
CLOSE = 1e-4  # of the output's scale
REFUSALS = (RuntimeError, ValueError, NotImplementedError, KeyError, TypeError)


def convert(request: ConvertRequest) -> Iterator[Said]:
    """Write `fp32.mlpackage`, which is a folder."""
    yield WorkerProgress(text="converting to Core ML", done=0, total=1)
    folder = Path(request.folder)
    module, given = program.packed(request), program.row(request)
    example = given.float() if given.is_floating_point() else given.int()
    try:
        problem = _differs(module, given, example)
        if not problem:
            _write(program.exported(module, example), request, folder / NAME)
    except REFUSALS as error:
        problem = first_line(error)
    made = [] if problem else [p.relative_to(folder).as_posix() for p in files.walk(folder / NAME)]
    yield Converted(precision="fp32", files=sorted(made, key=_is_within), problem=problem)


def _is_within(name: str) -> bool:
    """Put the manifest first: it is what a person looks for."""
    return not name.endswith("Manifest.json")


def _differs(module: torch.nn.Module, given: Tensor, example: Tensor) -> str:
    """Say whether the module answers otherwise to the numbers that Core ML can give it."""
    with torch.inference_mode():
        wanted, found = module(given)[0], module(example)[0]
    diff, scale = float((wanted - found).abs().max()), float(wanted.abs().max())
    if diff <= CLOSE * max(scale, 1e-12):
        return ""
    return f"forward answers otherwise to {example.dtype} than to {given.dtype} (by {diff:.2g})"


def _write(exported: torch.export.ExportedProgram, request: ConvertRequest, target: Path) -> None:
    model = coremltools.convert(
        exported.run_decompositions({}),
        outputs=[coremltools.TensorType(name=out.name) for out in request.built.outputs],
        minimum_deployment_target=coremltools.target.iOS16,
        compute_precision=coremltools.precision.FLOAT32,
    )
    model = _renamed(model, request.built.input.name)
    model.user_defined_metadata["mlstack.run"] = request.build.run_folder.rsplit("/", 1)[-1]
    model.save(str(target))
    (target / "executorch_debug_handle_mapping.json").unlink(missing_ok=True)
    _name_alike(target / "Manifest.json")


def _renamed(model: Any, name: str) -> Any:
    """Call the input what the signature calls it; torch gives it the name of the argument."""
    spec = model.get_spec()
    coremltools.utils.rename_feature(spec, spec.description.input[0].name, name)
    return coremltools.models.MLModel(spec, weights_dir=model.weights_dir)


def _name_alike(manifest: Path) -> None:
    """Replace the random names of the parts by names of what they are."""
    content = manifest.read_text()
    entries = json.loads(content)["itemInfoEntries"]
    for name, entry in entries.items():
        content = content.replace(name, str(uuid5(NAMESPACE_URL, entry["path"])))
    files.write_text(manifest, content)


if __name__ == "__main__":
    answer(ConvertRequest, convert)
