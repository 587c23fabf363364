"""Import libraries that would send word of it."""

import importlib
import sys
from typing import Any


def openvino() -> Any:
    """Import OpenVINO without its telemetry.

    `import openvino` tells Google Analytics so, and keeps an id in the home folder. Where the
    library for that cannot be imported, OpenVINO takes a stub of its own, which says nothing.
    """
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    return importlib.import_module("openvino")
