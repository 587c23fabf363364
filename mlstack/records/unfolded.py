"""How large a graph becomes when the functions in its file are put in where they are called.

A runtime does that before it runs anything: 41 functions that each call the next one twice are
2.6 kB, and 2,000,000,000,000 nodes; 3,000 that each call the next one once are more than its stack
holds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

Name = tuple[str, str]  # domain and name of an operator

TOO_MANY = 1 << 62


@dataclass
class Body:
    """A graph or a function as it is written: what its nodes call, and how deep inside of it."""

    size_bytes: int = 0
    calls: list[tuple[Name, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Size:
    """What a body is once all functions are put in; `depth` counts graphs and calls within it."""

    nodes: int
    size_bytes: int
    depth: int


def measure(graph: Body, functions: Mapping[Name, Body]) -> Size:
    """Measure a graph, or a function that is larger; functions in a circle are too many."""
    inner = {name: {c for c, _ in f.calls if c in functions} for name, f in functions.items()}
    sizes: dict[Name, Size] = {}
    try:
        for name in TopologicalSorter(inner).static_order():
            sizes[name] = _size(functions[name], sizes)
    except CycleError:
        return Size(TOO_MANY, TOO_MANY, TOO_MANY)
    return _largest([_size(graph, sizes), *sizes.values()])


def _size(body: Body, sizes: Mapping[Name, Size]) -> Size:
    nodes, size_bytes, depth = 0, body.size_bytes, 0
    for name, inside in body.calls:
        called = sizes.get(name)
        if called is None:
            nodes, depth = nodes + 1, max(depth, inside)
        else:
            nodes += called.nodes
            size_bytes += called.size_bytes
            depth = max(depth, inside + 1 + called.depth)
    return Size(min(nodes, TOO_MANY), min(size_bytes, TOO_MANY), depth)


def _largest(sizes: Iterable[Size]) -> Size:
    every = list(sizes)
    return Size(
        max(s.nodes for s in every), max(s.size_bytes for s in every), max(s.depth for s in every)
    )
