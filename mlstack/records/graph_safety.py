"""Look into a graph without trusting it: wherever a tensor, a graph or a function can lie.

A model file is protobuf (onnx.proto3). The reader needs neither onnx nor onnxruntime, so a package
is looked at before anything executes it.
"""

import mmap
import os
from dataclasses import dataclass, field
from pathlib import Path

from mlstack.errors import DataError
from mlstack.records import unfolded
from mlstack.records.unfolded import Body, Name
from mlstack.records.wire import BYTES, VARINT, Reader

MAX_BYTES = 2 << 30  # of a file, and of a graph with the functions of its file put in
MAX_NODES = 1_000_000  # of a graph with the functions of its file put in
MAX_FUNCTIONS = 10_000
MAX_NAME_BYTES = 1000  # of an operator or a domain
MAX_DEPTH = 16  # graphs in nodes of graphs
MAX_UNFOLDED_DEPTH = 64  # the same with the functions put in, each call counted
DOMAINS = frozenset({"", "ai.onnx.ml", "com.microsoft"})
# Of com.microsoft: what runs code, or reads files, that is not in the graph.
OUTSIDE = frozenset({"EPContext", "ATen", "PythonOp", "PythonOpGrad", "TritonOp", "Snpe"})

# Fields of the messages of onnx.proto that lead to a tensor, a graph or a function ...
INSIDE = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph"},
    "tensor": {},
}
# ... those that do and that no exported graph has ...
SPARSE = "holds sparse tensors"
NEVER = {
    "model": {20: "holds graphs that train it"},
    "graph": {15: SPARSE},
    "function": {},
    "node": {},
    "attribute": {22: SPARSE, 23: SPARSE},
    "tensor": {13: "keeps weights in other files"},
}
# ... and those that do not: one that is not known could hold anything.
PLAIN = {
    "model": frozenset({1, 2, 3, 4, 5, 6, 8, 14, 26}),
    "graph": frozenset({2, 10, 11, 12, 13, 14, 16}),
    "function": frozenset({4, 5, 6, 8, 9, 12, 13, 14}),
    "node": frozenset({1, 2, 3, 6, 8, 9, 10}),
    "attribute": frozenset({1, 2, 3, 4, 7, 8, 9, 13, 14, 15, 20, 21}),
    "tensor": frozenset({*range(1, 13), 16}),
}
NAMES = {"node": (7, 4), "function": (10, 1)}  # where its domain lies, and its name
TENSOR_LOCATION = 14


def check_graph(path: Path) -> None:
    """Refuse a graph that reads other files, needs foreign operators, or is unreasonably large.

    Raises:
        DataError: it does, or it is not a whole model file.
    """
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if not 0 < size <= MAX_BYTES:
                raise DataError(
                    f"`{path.name}` has {size} bytes; it is empty or over the limit of 2 GiB",
                    hint="fetch it again, or export a smaller model",
                )
            # Not closed by hand: slices of it live as long as somebody reads them.
            raw = memoryview(mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_READ))
    except OSError as error:
        raise DataError(
            f"cannot read `{path}`: {error.strerror}", hint="name a file that you may read"
        ) from error
    _Look(Reader(raw, path), path).check(size)


@dataclass(frozen=True)
class _Place:
    """Where a message lies: in which graph of the model or function, and how deep inside of it."""

    body: Body
    depth: int = 0


@dataclass
class _Look:
    """One look through a model file: what was found so far."""

    reader: Reader
    path: Path
    graphs: list[Body] = field(default_factory=list)
    functions: dict[Name, Body] = field(default_factory=dict)
    nodes: int = 0

    def check(self, size: int) -> None:
        self._message("model", (0, size), _Place(Body()))
        if len(self.graphs) != 1:
            raise self._refused(f"holds {len(self.graphs) or 'no'} graphs; a model has one")
        for body in (*self.graphs, *self.functions.values()):
            self._check_operators(body)
        found = unfolded.measure(self.graphs[0], self.functions)
        if found.nodes > MAX_NODES:
            raise self._refused(f"unfolds to more than {MAX_NODES:,} nodes")
        if found.size_bytes > MAX_BYTES:
            raise self._refused("unfolds to more than 2 GiB")
        if found.depth > MAX_UNFOLDED_DEPTH:
            raise self._refused(f"nests functions and graphs deeper than {MAX_UNFOLDED_DEPTH}")

    def _message(self, kind: str, span: tuple[int, int], place: _Place) -> None:
        inside, plain, named = INSIDE[kind], PLAIN[kind], NAMES.get(kind, ())
        texts: dict[int, str] = {}
        for number, wire, begin, end in self.reader.fields(*span):
            if number in plain:
                continue
            if number == TENSOR_LOCATION and kind == "tensor":
                # Not just 1: a library cuts 2**32 + 1 to the 1 that means another file.
                if wire != VARINT or not self.reader.is_zero(begin, end):
                    raise self._refused(NEVER["tensor"][13])
            elif number not in inside and number not in named:
                what = NEVER[kind].get(
                    number, f"has a field {number} in a {kind}, which ONNX lacks"
                )
                raise self._refused(what)
            elif wire != BYTES or number in texts:
                raise self._refused(f"has a field {number} in a {kind} that no writer writes")
            elif number in named:
                texts[number] = self._name(begin, end)
            else:
                self._message(
                    inside[number], (begin, end), self._inner(kind, number, place, end - begin)
                )
        if named:
            domain, name = (texts.get(number, "") for number in named)
            self._keep(kind, ("" if domain == "ai.onnx" else domain, name), place)

    def _name(self, begin: int, end: int) -> str:
        """Read a name; it may be shown on a terminal, which obeys what cannot be printed."""
        if end - begin > MAX_NAME_BYTES:
            raise self._refused(f"has a name of more than {MAX_NAME_BYTES:,} bytes")
        name = self.reader.text(begin, end)
        if not name.isprintable():
            raise self._refused("has a name that cannot be printed")
        return name

    def _inner(self, kind: str, number: int, place: _Place, size: int) -> _Place:
        """Give the place of what lies in a message."""
        inner = INSIDE[kind][number]
        if kind == "model":
            body = Body(size)
            if inner == "graph":
                self.graphs.append(body)
            return _Place(body)
        if inner != "graph":
            return place
        if place.depth == MAX_DEPTH:
            raise self._refused(f"nests graphs deeper than {MAX_DEPTH}")
        return _Place(place.body, place.depth + 1)

    def _keep(self, kind: str, name: Name, place: _Place) -> None:
        """Note a node, or a function that was gone through."""
        if kind == "node":
            self.nodes += 1
            place.body.calls.append((name, place.depth))
        elif name in self.functions:  # an overload, or a second one: either may be called
            self.functions[name].size_bytes += place.body.size_bytes
            self.functions[name].calls += place.body.calls
        else:
            self.functions[name] = place.body
        if self.nodes > MAX_NODES or len(self.functions) > MAX_FUNCTIONS:
            raise self._refused(
                f"holds more than {MAX_NODES:,} nodes or {MAX_FUNCTIONS:,} functions"
            )

    def _check_operators(self, body: Body) -> None:
        for (domain, name), _ in body.calls:
            if domain not in DOMAINS and (domain, name) not in self.functions:
                raise self._refused(f"needs `{name}` of the unknown domain `{domain}`")
            if domain == "com.microsoft" and name in OUTSIDE:
                raise self._refused(f"needs `{name}`, which runs what is not in the graph")

    def _refused(self, what: str) -> DataError:
        return DataError(
            f"`{self.path}` {what}; such a graph is not opened",
            hint="export the run again, or save it with its weights in one plain .onnx file",
        )
