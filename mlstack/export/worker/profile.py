"""The reference profile: what `monitor` will compare the request log with."""

import numpy as np

from mlstack.export.worker.raw import Answered
from mlstack.inputs.images import FEATURES
from mlstack.records.reference import CategoryColumn, NumericColumn, Reference

EDGES = 64


def profile(parts: list[Answered], classes: list[str], origin: str) -> Reference:
    """Describe inputs and answers over the reference examples."""
    predicted = np.concatenate([p.predicted for p in parts])
    targets = np.concatenate([p.targets for p in parts])
    confidence = np.concatenate([p.probabilities.max(axis=1) for p in parts])
    described = [p.features for p in parts if p.features is not None]
    columns = [numeric("confidence", confidence)]
    if described:
        features = np.concatenate(described)
        columns = [numeric(n, features[:, i]) for i, n in enumerate(FEATURES)] + columns
    counts = {name: int((predicted == i).sum()) for i, name in enumerate(classes)}
    return Reference(
        rows=len(predicted),
        origin=origin,
        numeric=columns,
        categories=[CategoryColumn(name="prediction", counts=counts)],
        classes=classes,
        accuracy=float((predicted == targets).mean()),
    )


def numeric(name: str, values: np.ndarray) -> NumericColumn:
    """Count values between their own quantiles; equal quantiles fall together."""
    known = values[np.isfinite(values)].astype(np.float64)
    if not len(known):
        return NumericColumn(name=name, edges=[], counts=[0], missing=len(values))
    edges = np.unique(np.quantile(known, np.linspace(0, 1, EDGES + 2)[1:-1]))
    place = np.searchsorted(edges, known, side="left")  # edges[i-1] < x <= edges[i]
    return NumericColumn(
        name=name,
        edges=edges.tolist(),
        counts=np.bincount(place, minlength=len(edges) + 1).tolist(),
        missing=len(values) - len(known),
        mean=float(known.mean()),
        deviation=float(known.std()),
    )
