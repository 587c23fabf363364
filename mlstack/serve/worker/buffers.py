"""Memory that is kept between calls on a GPU: gathered into, copied from, and answered into."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort

from mlstack.records.package import Tensor
from mlstack.serve.worker import cuda
from mlstack.serve.worker.tensors import DTYPES

Arrays = list[np.ndarray]


class Buffers:
    """Arrays for the largest batch that requests are gathered into; one thread takes and returns.

    There are as many sets as there were calls at the same time.
    """

    def __init__(self, make: Callable[[], Arrays]) -> None:
        self._make = make
        self._free: list[Arrays] = []

    def take(self) -> Arrays:
        """Give a set that no call uses."""
        return self._free.pop() if self._free else self._make()

    def put_back(self, arrays: Arrays) -> None:
        """Take a set back whose call has ended."""
        self._free.append(arrays)


class Bound:
    """A session's call of one number of rows, whose inputs and outputs stay where they are.

    `session.run` allocates on the device, and the answers on the host, in every call; here the
    device's copy of the inputs and the page-locked memory of the answers are made once.
    """

    def __init__(self, session: Any, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        """Bind tensors of known sizes.

        Args:
            session: of ONNX Runtime.
            inputs: with the rows of the call as their first size.
            outputs: so, too.
        """
        device, number = place(session)
        self._session = session
        self._binding = session.io_binding()
        self._turn = threading.Lock()
        self._inputs = []
        for tensor in inputs:
            dtype = DTYPES[tensor.datatype]
            value = ort.OrtValue.ortvalue_from_shape_and_type(tensor.shape, dtype, device, number)
            self._binding.bind_ortvalue_input(tensor.name, value)
            self._inputs.append((value, tuple(tensor.shape), dtype))
        library = cuda.runtime() if device == "cuda" else None
        self._outputs = [
            cuda.page_locked(tensor.shape, DTYPES[tensor.datatype], library) for tensor in outputs
        ]
        for tensor, array in zip(outputs, self._outputs, strict=True):
            value = ort.OrtValue.ortvalue_from_numpy(array)
            self._binding.bind_ortvalue_output(tensor.name, value)

    def fits(self, arrays: Arrays) -> bool:
        """Tell whether these are the inputs; of another type the bytes would be taken for them."""
        return all(
            array.shape == shape and array.dtype == dtype
            for array, (_, shape, dtype) in zip(arrays, self._inputs, strict=True)
        )

    def run(self, arrays: Arrays) -> Arrays:
        """Run the graph; the answers are copies, which no later call changes."""
        with self._turn:
            for array, (value, _, _) in zip(arrays, self._inputs, strict=True):
                value.update_inplace(array)
            self._session.run_with_iobinding(self._binding)
            return [array.copy() for array in self._outputs]


def place(session: Any) -> tuple[str, int]:
    """Name the device that a session computes on, as ONNX Runtime does."""
    if cuda.PROVIDER not in session.get_providers():
        return "cpu", 0
    return "cuda", int(session.get_provider_options()[cuda.PROVIDER]["device_id"])


def sized(tensors: list[Tensor], rows: int) -> list[Tensor] | None:
    """Fill in the rows; None where another size is free, or there are no numbers in it."""
    found = [
        Tensor(name=t.name, datatype=t.datatype, shape=[rows, *t.shape[1:]])
        for t in tensors
        if t.datatype != "BYTES" and t.shape[:1] in ([-1], [rows]) and -1 not in t.shape[1:]
    ]
    return found if len(found) == len(tensors) else None
