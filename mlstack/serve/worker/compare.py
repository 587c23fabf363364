"""Ask a second model what the first has answered, and count where they agree."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mlstack.serve.worker.model import Model

NEAR = 1e-3  # of outputs that are no probabilities, relative


@dataclass(frozen=True)
class Sample:
    """One answered request: what went in, what came out, and how to read it for another model."""

    prediction_id: str
    model: Model
    arrays: list[np.ndarray]
    outputs: list[np.ndarray]
    again: Callable[[Model], list[np.ndarray]]
    body_bytes: int  # of the request, which `again` holds on to

    @property
    def rows(self) -> int:
        """Tell how many rows were answered."""
        return len(self.arrays[0])

    def size_bytes(self) -> int:
        """Tell how much memory it holds."""
        return self.body_bytes + sum(array.nbytes for array in (*self.arrays, *self.outputs))

    def inputs_for(self, other: Model) -> list[np.ndarray]:
        """Give the arrays that another model takes for the same request.

        Raises:
            Refused: the other model does not take it.
        """
        mine = self.model
        if mine.spec == other.spec and mine.signature.inputs == other.signature.inputs:
            return self.arrays
        return self.again(other)


def agreeing(sample: Sample, other: Model, outputs: list[np.ndarray]) -> np.ndarray:
    """Tell of each row whether both say the same class, or nearly the same numbers; (rows,)."""
    mine, theirs = sample.model.probabilities(sample.outputs), other.probabilities(outputs)
    if mine is not None and theirs is not None:
        names = np.asarray(sample.model.signature.classes or range(mine.shape[1]))
        other_names = np.asarray(other.signature.classes or range(theirs.shape[1]))
        same: np.ndarray = names[mine.argmax(axis=1)] == other_names[theirs.argmax(axis=1)]
        return same
    rows = np.ones(sample.rows, dtype=bool)
    for one, two in zip(sample.outputs, outputs, strict=False):
        if one.shape != two.shape or one.dtype.kind not in "biuf" or two.dtype.kind not in "biuf":
            return np.zeros(sample.rows, dtype=bool)
        near = np.isclose(one, two, rtol=NEAR, atol=NEAR * float(np.abs(one).max(initial=0)))
        rows &= near.reshape(sample.rows, -1).all(axis=1)
    return rows
