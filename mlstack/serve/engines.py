"""The engines that TensorRT has built, each in a folder with the name of its graph beside it."""

import shutil
from pathlib import Path

from mlstack import files

GRAPH = "graph"  # where the graph lies


def claim(folder: Path, graph: Path) -> None:
    """Note which graph the engines of a folder are built from."""
    folder.mkdir(parents=True, exist_ok=True)
    files.write_text(folder / GRAPH, str(graph.resolve()))


def sweep(engines: Path) -> None:
    """Delete the engines of graphs that are gone, or have become others since."""
    for note in engines.glob(f"*/*/{GRAPH}"):
        graph, digest = Path(note.read_text()), note.parent.name.rpartition("-")[0]
        if not graph.is_file() or files.sha256(graph) != digest:
            shutil.rmtree(note.parent, ignore_errors=True)  # another server may do it as well
