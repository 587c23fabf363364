"""Formats beside ONNX: what each needs, and what becomes of it here."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """One format that a package may hold beside model.onnx."""

    library: str  # that must be installed; the extra has the format's name
    worker: str  # below `mlstack.export.worker`
    takes_int8: bool = False  # static INT8 can be made, too, where it is packed
    is_apart: bool = False  # its converter lives in an environment of its own
    unverified: str = ""  # said of it where it cannot be run


FORMATS = {
    "openvino": Format("openvino", "to_openvino", takes_int8=True),
    "executorch": Format("executorch", "to_executorch"),
    "litert": Format("ai_edge_litert", "to_litert", takes_int8=True, is_apart=True),
    "coreml": Format(
        "coremltools", "to_coreml", unverified="unverified, for only macOS runs Core ML"
    ),
}
