"""Where LiteRT's converter lives for the tests: an environment that `make litert` has made."""

from pathlib import Path

HOME = Path(__file__).parents[1] / ".litert"


def litert_python() -> Path:
    """Give its Python."""
    python = HOME / "bin" / "python"
    assert python.is_file(), "there is no .litert; type: make litert"
    return python
