"""One ONNX Runtime session on one device: arrays in, arrays out."""

import contextlib
import ctypes
import io
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from mlstack.errors import DataError, MachineError
from mlstack.records import trusted
from mlstack.records.package import Tensor
from mlstack.serve.worker.tensors import DTYPES

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
FATAL = 4

# What the process answers with must not be mixed with the runtime's own chatter; what matters
# (a provider that did not load, a graph that cannot run) is found out and said by us.
ort.set_default_logger_severity(FATAL)


class Runner:
    """A loaded graph. `run` may be called from any thread, one call at a time."""

    def __init__(self, model: Path, device: str, *, threads: int = 0, gpu: int = 0) -> None:
        """Open `model` on `device` (auto, cpu or gpu).

        Args:
            model: an .onnx file.
            device: where it runs.
            threads: of one call on the CPU; 0 are as many as there are cores.
            gpu: which of the visible GPUs.

        Raises:
            MachineError: a GPU was asked for and the session does not use it.
            DataError: the file is not a graph that this ONNX Runtime can run.
        """
        self.model = model
        self._session = _open(model, device, threads, gpu)
        self.provider: str = self._session.get_providers()[0]
        self.inputs = [_tensor(t) for t in self._session.get_inputs()]
        self.outputs = [_tensor(t) for t in self._session.get_outputs()]
        self._input_names = [t.name for t in self.inputs]
        self._output_names = [t.name for t in self.outputs]

    @property
    def on_gpu(self) -> bool:
        """Tell whether the session really runs on a GPU."""
        return self.provider == CUDA

    def run(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """Run the graph on one array an input; every array has the same number of rows."""
        feed = dict(zip(self._input_names, arrays, strict=True))
        outputs: list[np.ndarray] = self._session.run(self._output_names, feed)
        return outputs

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


def missing_for_gpu() -> tuple[str, str]:
    """Say what this machine lacks to run on a GPU, and what to do; empty when nothing is seen."""
    if CUDA not in ort.get_available_providers():
        return "this ONNX Runtime is built without CUDA", "pip install onnxruntime-gpu"
    if not _loads("libcuda.so.1"):
        return "there is no NVIDIA driver (libcuda.so.1 does not load)", "use `--device cpu`"
    major = ort.cuda_version.split(".")[0]
    for library in (f"libcudart.so.{major}", f"libcublasLt.so.{major}", "libcudnn.so.9"):
        if not _loads(library):
            hint = f"install CUDA {major} with cuDNN 9, or use `--device cpu`"
            return f"`{library}` does not load", hint
    return "", ""


def count_gpus() -> int:
    """Count the GPUs that this process sees (`CUDA_VISIBLE_DEVICES`); 0 without a driver."""
    count = ctypes.c_int(0)
    with contextlib.suppress(OSError):
        driver = ctypes.CDLL("libcuda.so.1")
        if driver.cuInit(0) == 0:
            driver.cuDeviceGetCount(ctypes.byref(count))
    return count.value


def _open(model: Path, device: str, threads: int, gpu: int) -> Any:
    if device == "cpu" or (device == "auto" and not _loads("libcuda.so.1")):
        return _session(model, [CPU], threads)
    # both print to stdout when something is missing; stdout belongs to the command's answer
    with contextlib.redirect_stdout(io.StringIO()):
        ort.preload_dlls()
        cuda = (CUDA, {"cudnn_conv_algo_search": "HEURISTIC", "device_id": gpu})
        session = _session(model, [cuda, CPU], threads)
    if device == "gpu" and CUDA not in session.get_providers():
        cause, hint = missing_for_gpu()
        raise MachineError(
            f"a GPU was asked for and ONNX Runtime does not use one: {cause or 'CUDA failed'}",
            hint=hint or "see what `mlstack doctor` says, or use `--device cpu`",
        )
    return session


def _session(model: Path, providers: list[Any], threads: int) -> Any:
    if not model.is_file():
        raise DataError(f"there is no `{model}`", hint="export the run again")
    options = ort.SessionOptions()
    options.log_severity_level = FATAL
    options.intra_op_num_threads = threads
    # Spinning threads would take the cores that parse requests.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(str(model), options, providers=providers)
    except Exception as error:  # onnxruntime's errors have no base class of their own
        raise DataError(
            f"`{model}` is not a graph that ONNX Runtime {ort.__version__} can run: "
            f"{str(error).splitlines()[0]}",
            hint="export the run again",
        ) from error


def _tensor(described: Any) -> Tensor:
    return trusted.tensor(described.name, described.type, described.shape)


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
