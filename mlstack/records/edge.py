"""Formats for the edge beside a package's graph: `mlstack/edge.json` and `mlstack/edge/`."""

import msgspec

from mlstack.records.base import Record
from mlstack.records.package import Golden
from mlstack.records.variants import Times, Variant

EDGE = "edge"  # below mlstack/ of a package: a folder, and edge.json


class EdgeModel(Record, frozen=True, kw_only=True, tag="package.edge_model"):
    """The package's model in another format."""

    format: str  # openvino, executorch, litert or coreml
    precision: str  # of the graph that it was made of
    files: list[str]  # below the package; the first one is what a runtime opens
    size_bytes: int
    verified: bool  # it ran here, and passed every gate
    why: str = ""  # it is not verified
    runtime: str = ""  # what ran it: name, version, device, numbers it computes in
    measured: Variant | None = None
    golden: Golden | None = None  # what it must answer to the package's golden examples
    examples: int = 0  # that it and the graph in full precision both answered
    lost: int = 0  # right in full precision, wrong here
    gained: int = 0


class Edge(Record, frozen=True, kw_only=True, tag="package.edge"):
    """All formats beside ONNX, and how fast the graphs were in the same turns."""

    models: list[EdgeModel]
    onnx: dict[str, list[Times]] = msgspec.field(default_factory=dict)  # by precision
