"""One ONNX Runtime session on one device: arrays in, arrays out."""

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from mlstack.errors import DataError, MachineError
from mlstack.records import trusted
from mlstack.records.package import Tensor
from mlstack.serve.worker import cuda
from mlstack.serve.worker.buffers import Bound, sized
from mlstack.serve.worker.tensors import DTYPES

CPU = "CPUExecutionProvider"
FATAL = 4

# What the process answers with must not be mixed with the runtime's own chatter; what matters
# (a provider that did not load, a graph that cannot run) is found out and said by us.
ort.set_default_logger_severity(FATAL)


class Runner:
    """A loaded graph. `run` may be called from any thread, one call at a time."""

    def __init__(
        self,
        model: Path,
        device: str,
        *,
        threads: int = 0,
        gpu: int = 0,
        tensorrt: dict[str, Any] | None = None,
    ) -> None:
        """Open `model` on `device` (auto, cpu or gpu).

        Args:
            model: an .onnx file.
            device: where it runs.
            threads: of one call on the CPU; 0 are as many as there are cores.
            gpu: which of the visible GPUs.
            tensorrt: options of TensorRT, which is used before CUDA then; None leaves it out.

        Raises:
            MachineError: a GPU was asked for and the session does not use it.
            DataError: the file is not a graph that this ONNX Runtime can run.
        """
        self.model = model
        self._session = _open(model, device, threads, gpu, tensorrt)
        self.provider = _used(self._session)
        self.inputs = [_tensor(t) for t in self._session.get_inputs()]
        self.outputs = [_tensor(t) for t in self._session.get_outputs()]
        self._input_names = [t.name for t in self.inputs]
        self._output_names = [t.name for t in self.outputs]
        self._bound: dict[int, Bound] = {}  # by the rows of the call

    @property
    def on_gpu(self) -> bool:
        """Tell whether the session really runs on a GPU."""
        return self.provider in (cuda.PROVIDER, cuda.TENSORRT)

    @property
    def precision(self) -> str:
        """Name the kind of numbers that `export` made the graph of; empty for a foreign one."""
        facts: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        return facts.get("mlstack.precision", "")

    def run(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """Run the graph on one array an input; every array has the same number of rows."""
        if self._bound:
            bound = self._bound.get(len(arrays[0]))
            if bound is not None and bound.fits(arrays):
                return bound.run(arrays)
        feed = dict(zip(self._input_names, arrays, strict=True))
        outputs: list[np.ndarray] = self._session.run(self._output_names, feed)
        return outputs

    @property
    def bound_rows(self) -> list[int]:
        """Give the batch sizes whose calls have buffers that are kept."""
        return sorted(self._bound)

    def bind(self, rows: int) -> bool:
        """Keep buffers for calls of so many rows; False where the sizes are not all known."""
        inputs, outputs = sized(self.inputs, rows), sized(self.outputs, rows)
        if inputs is None or outputs is None:
            return False
        self._bound[rows] = Bound(self._session, inputs, outputs)
        return True

    def unbind(self, rows: int) -> None:
        """Call with so many rows as with any others."""
        self._bound.pop(rows, None)

    @property
    def is_single(self) -> bool:
        """Tell whether the graph takes one row a call and no more."""
        return any(t.shape[:1] == [1] for t in self.inputs)

    def zeros(self, rows: int) -> list[np.ndarray] | None:
        """Make an input of zeros for timing; None when the graph's sizes are not all known."""
        if self.is_single and rows > 1:
            return None
        if any(-1 in t.shape[1:] or t.datatype == "BYTES" for t in self.inputs):
            return None
        return [np.zeros([rows, *t.shape[1:]], DTYPES[t.datatype]) for t in self.inputs]

    def shrink(self) -> None:
        """Give back what the largest batches of timing took; calls take again what they need."""
        arrays = self.zeros(1)
        if arrays is None or self.on_gpu:
            return
        options = ort.RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        feed = dict(zip(self._input_names, arrays, strict=True))
        self._session.run(self._output_names, feed, options)


def _used(session: Any) -> str:
    """Name the first provider that runs a part of the graph: TensorRT may have taken none."""
    first, *others = session.get_providers()
    if first != cuda.TENSORRT:
        return str(first)
    takers = {part.ep_name for part in session.get_provider_graph_assignment_info()}
    return str(first if first in takers else others[0])


def _open(model: Path, device: str, threads: int, gpu: int, tensorrt: dict[str, Any] | None) -> Any:
    if device == "cpu" or (device == "auto" and not cuda.loads("libcuda.so.1")):
        return _session(model, [CPU], threads)
    # both print to stdout when something is missing; stdout belongs to the command's answer
    with contextlib.redirect_stdout(io.StringIO()):
        ort.preload_dlls()
        on_cuda = (cuda.PROVIDER, {"cudnn_conv_algo_search": "HEURISTIC", "device_id": gpu})
        first = [(cuda.TENSORRT, tensorrt)] if tensorrt is not None else []
        session = _session(model, [*first, on_cuda, CPU], threads)
    if device == "gpu" and cuda.PROVIDER not in session.get_providers():
        cause, hint = cuda.missing()
        raise MachineError(
            f"a GPU was asked for and ONNX Runtime does not use one: {cause or 'CUDA failed'}",
            hint=hint or "see what `mlstack doctor` says, or use `--device cpu`",
        )
    # else its Python opens the graph anew on the CPU, and says so on stdout, when the GPU is lost
    session.disable_fallback()
    return session


def _session(model: Path, providers: list[Any], threads: int) -> Any:
    if not model.is_file():
        raise DataError(f"there is no `{model}`", hint="export the run again")
    options = ort.SessionOptions()
    options.log_severity_level = FATAL
    options.intra_op_num_threads = threads
    # Spinning threads would take the cores that parse requests.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    has_tensorrt = any(cuda.TENSORRT in one for one in providers)
    if has_tensorrt:
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    try:
        # where TensorRT fails it would go on with CUDA, and not tell the cause
        return ort.InferenceSession(
            str(model), options, providers=providers, enable_fallback=not has_tensorrt
        )
    except Exception as error:  # onnxruntime's errors have no base class of their own
        raise DataError(
            f"`{model}` is not a graph that ONNX Runtime {ort.__version__} can run: "
            f"{str(error).splitlines()[0]}",
            hint="export the run again",
        ) from error


def _tensor(described: Any) -> Tensor:
    return trusted.tensor(described.name, described.type, described.shape)
