"""What this machine has of CUDA: driver, libraries, GPUs, and memory that a GPU reads by itself."""

import contextlib
import ctypes
import math
import weakref
from typing import Any

import numpy as np
import onnxruntime as ort

PROVIDER = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
PORTABLE = 1  # of cudaHostAlloc: page-locked for every GPU


def missing() -> tuple[str, str]:
    """Say what this machine lacks to run on a GPU, and what to do; empty when nothing is seen."""
    if PROVIDER not in ort.get_available_providers():
        return "this ONNX Runtime is built without CUDA", "pip install onnxruntime-gpu"
    if not loads("libcuda.so.1"):
        return "there is no NVIDIA driver (libcuda.so.1 does not load)", "use `--device cpu`"
    for library in (f"libcudart.so.{major()}", f"libcublasLt.so.{major()}", "libcudnn.so.9"):
        if not loads(library):
            hint = f"install CUDA {major()} with cuDNN 9, or use `--device cpu`"
            return f"`{library}` does not load", hint
    return "", ""


def major() -> str:
    """Name the version of CUDA that this ONNX Runtime is built for."""
    return str(ort.cuda_version.split(".")[0])


def loads(library: str) -> bool:
    """Tell whether the system finds a library, and keep it."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def count_gpus() -> int:
    """Count the GPUs that this process sees (`CUDA_VISIBLE_DEVICES`); 0 without a driver."""
    count = ctypes.c_int(0)
    with contextlib.suppress(OSError):
        driver = ctypes.CDLL("libcuda.so.1")
        if driver.cuInit(0) == 0:
            driver.cuDeviceGetCount(ctypes.byref(count))
    return count.value


def name_of(gpu: int) -> str:
    """Name the model of a visible GPU."""
    driver = ctypes.CDLL("libcuda.so.1")
    device, name = ctypes.c_int(0), ctypes.create_string_buffer(256)
    driver.cuInit(0)
    driver.cuDeviceGet(ctypes.byref(device), gpu)
    driver.cuDeviceGetName(name, len(name), device)
    return name.value.decode(errors="replace")


def runtime() -> Any:
    """Give the CUDA runtime that ONNX Runtime uses; None where there is none."""
    try:
        return ctypes.CDLL(f"libcudart.so.{major()}")
    except OSError:
        return None


def page_locked(shape: list[int], dtype: np.dtype[Any], library: Any) -> np.ndarray:
    """Make an array of zeros that a GPU copies from and to without the processor.

    Memory of that kind is asked of the CUDA runtime itself: ONNX Runtime's Python gives none.
    Where there is none left it is an ordinary array, with which everything is as right.

    Args:
        shape: of the array.
        dtype: of numbers.
        library: the CUDA runtime, or None for an ordinary array.
    """
    size_bytes = math.prod(shape) * dtype.itemsize
    place = ctypes.c_void_p()
    if library is not None and size_bytes:
        library.cudaHostAlloc(ctypes.byref(place), ctypes.c_size_t(size_bytes), PORTABLE)
    if not place.value:
        return np.zeros(shape, dtype)
    memory = (ctypes.c_ubyte * size_bytes).from_address(place.value)
    # when the last view of it has gone; at the end of the process the driver takes it back
    weakref.finalize(memory, library.cudaFreeHost, place).atexit = False
    array: np.ndarray = np.ctypeslib.as_array(memory).view(dtype).reshape(shape)
    array.fill(0)
    return array
