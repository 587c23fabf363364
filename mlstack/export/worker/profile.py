"""The reference profile: what `monitor` will compare the request log with."""

import numpy as np

from mlstack.export.worker.raw import Answered
from mlstack.inputs import preprocess
from mlstack.inputs.preprocess import Spec
from mlstack.inputs.tables import OTHER, TableSpec
from mlstack.records.reference import CategoryColumn, NumericColumn, Reference
from mlstack.stats import binning


def profile(
    parts: list[Answered], classes: list[str], origin: str, spec: Spec | None = None
) -> Reference:
    """Describe inputs and answers over the reference examples."""
    predicted = np.concatenate([p.predicted for p in parts])
    targets = np.concatenate([p.targets for p in parts])
    confidence = np.concatenate([p.probabilities.max(axis=1) for p in parts])
    described = [p.features for p in parts if p.features is not None]
    columns = [numeric("confidence", confidence)]
    counts = {name: int((predicted == i).sum()) for i, name in enumerate(classes)}
    categories = [CategoryColumn(name="prediction", counts=counts)]
    if described and spec is not None:
        features = np.concatenate(described)
        known = spec.categories if isinstance(spec, TableSpec) else {}
        found = dict(zip(preprocess.features(spec), features.T, strict=True))
        columns = [numeric(n, values) for n, values in found.items() if n not in known] + columns
        categories += [category(n, found[n], values) for n, values in known.items()]
    return Reference(
        rows=len(predicted),
        origin=origin,
        numeric=columns,
        categories=categories,
        classes=classes,
        accuracy=float((predicted == targets).mean()),
    )


def category(name: str, codes: np.ndarray, values: list[str]) -> CategoryColumn:
    """Count the values of a text column, in the order of their codes; any other one comes last."""
    known = codes[np.isfinite(codes)].astype(np.int64)
    counts = np.bincount(known, minlength=len(values) + 1).tolist()
    return CategoryColumn(
        name=name,
        counts=dict(zip([*values, OTHER], counts, strict=True)),
        missing=len(codes) - len(known),
    )


def numeric(name: str, values: np.ndarray) -> NumericColumn:
    """Count values between edges that are their own; see `stats.binning`."""
    known = values[np.isfinite(values)].astype(np.float64)
    edges = binning.edges(known)
    counts, _ = binning.counts(known, edges)
    return NumericColumn(
        name=name,
        edges=edges.tolist(),
        counts=counts.tolist(),
        missing=len(values) - len(known),
        mean=float(known.mean()) if len(known) else 0.0,
        deviation=float(known.std()) if len(known) else 0.0,
    )
