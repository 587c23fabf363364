"""Look into a graph without trusting it: a reader of just the fields that can do harm.

A model file is protobuf (onnx.proto3). The reader needs neither onnx nor onnxruntime, so a package
is looked at before anything executes it.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path

from mlstack.errors import DataError
from mlstack.records import unfolded
from mlstack.records.unfolded import Name

MAX_BYTES = 2 << 30
MAX_DEPTH = 16
MAX_NODES = 1_000_000  # of a graph with the functions of its file put in
DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})

MODEL_GRAPH, MODEL_FUNCTIONS = 7, 25
FUNCTION_NAME, FUNCTION_NODE, FUNCTION_DOMAIN = 1, 7, 10
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_SPARSE = 1, 5, 15
NODE_OPERATOR, NODE_ATTRIBUTE, NODE_DOMAIN = 4, 5, 7
ATTRIBUTE_TENSOR, ATTRIBUTE_GRAPH, ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS = 5, 6, 10, 11
ATTRIBUTE_SPARSE = (22, 23)
TENSOR_EXTERNAL, TENSOR_LOCATION = 13, 14

Field = tuple[int, int | memoryview]


def check_graph(path: Path) -> None:
    """Refuse a graph that reads other files, needs foreign operators, or is unreasonably large.

    Raises:
        DataError: it does, or it is not a whole model file.
    """
    size = path.stat().st_size
    if not 0 < size <= MAX_BYTES:
        raise DataError(f"`{path.name}` has {size} bytes; it is empty or over the limit of 2 GiB")
    with path.open("rb") as stream:
        # Not closed by hand: slices of it live as long as somebody reads them.
        raw = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        _check_model(memoryview(raw), path)
    except (IndexError, UnicodeDecodeError) as error:
        raise DataError(f"`{path}` is not a whole ONNX file") from error


def _check_model(model: memoryview, path: Path) -> None:
    functions = [bytes(f) for f in _parts(model, MODEL_FUNCTIONS)]
    own = {_text(d) for f in functions for d in _parts(memoryview(f), FUNCTION_DOMAIN)}
    allowed = DOMAINS | own
    graphs = 0
    for number, value in _fields(model):
        if number == MODEL_GRAPH and isinstance(value, memoryview):
            graphs += 1
            _check_nodes(value, GRAPH_NODE, allowed, path)
    for function in functions:
        _check_nodes(memoryview(function), FUNCTION_NODE, allowed, path)
    if graphs != 1:
        raise DataError(f"`{path}` holds no graph")
    if functions:
        _check_unfolded(model, functions, path)


def _check_unfolded(model: memoryview, functions: list[bytes], path: Path) -> None:
    """Refuse functions that call functions that call functions, until no memory suffices."""
    bodies: dict[Name, list[Name]] = {}
    for function in functions:
        name = _named(memoryview(function), FUNCTION_DOMAIN, FUNCTION_NAME)
        bodies.setdefault(name, []).extend(_calls(memoryview(function), FUNCTION_NODE))
    (graph,) = _parts(model, MODEL_GRAPH)
    found = unfolded.nodes(_calls(graph, GRAPH_NODE), bodies)
    if found > MAX_NODES:
        raise DataError(f"`{path}` unfolds to more than {MAX_NODES:,} nodes")


def _calls(graph: memoryview, node: int) -> Iterator[Name]:
    """Yield what each node calls, those of graphs within nodes included."""
    for one in _parts(graph, node):
        yield _named(one, NODE_DOMAIN, NODE_OPERATOR)
        for attribute in _parts(one, NODE_ATTRIBUTE):
            for kind in (ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS):
                for inner in _parts(attribute, kind):
                    yield from _calls(inner, GRAPH_NODE)


def _named(message: memoryview, domain: int, name: int) -> Name:
    texts = {number: value for number, value in _fields(message) if number in (domain, name)}
    found = (texts.get(domain, memoryview(b"")), texts.get(name, memoryview(b"")))
    first, second = (_text(value) if isinstance(value, memoryview) else "" for value in found)
    return first, second


def _check_nodes(
    graph: memoryview, node: int, allowed: frozenset[str] | set[str], path: Path, depth: int = 0
) -> None:
    if depth > MAX_DEPTH:
        raise DataError(f"`{path}` nests graphs deeper than {MAX_DEPTH}")
    for number, value in _fields(graph):
        if not isinstance(value, memoryview):
            continue
        if number == node:
            _check_node(value, allowed, path, depth)
        elif node == GRAPH_NODE and number == GRAPH_INITIALIZER:
            _check_tensor(value, path)
        elif node == GRAPH_NODE and number == GRAPH_SPARSE:
            _refuse_sparse(path)


def _check_node(
    node: memoryview, allowed: frozenset[str] | set[str], path: Path, depth: int
) -> None:
    for number, value in _fields(node):
        if not isinstance(value, memoryview):
            continue
        if number == NODE_DOMAIN and _text(value) not in allowed:
            raise DataError(f"`{path}` needs operators of the unknown domain `{_text(value)}`")
        if number == NODE_ATTRIBUTE:
            for inner, content in _fields(value):
                if not isinstance(content, memoryview):
                    continue
                if inner in (ATTRIBUTE_TENSOR, ATTRIBUTE_TENSORS):
                    _check_tensor(content, path)
                if inner in ATTRIBUTE_SPARSE:
                    _refuse_sparse(path)
                if inner in (ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS):
                    _check_nodes(content, GRAPH_NODE, allowed, path, depth + 1)


def _check_tensor(tensor: memoryview, path: Path) -> None:
    for number, value in _fields(tensor):
        if number == TENSOR_EXTERNAL or (number == TENSOR_LOCATION and value == 1):
            raise DataError(
                f"`{path}` keeps weights in other files; a package is refused that does",
                hint="export the run again",
            )


def _refuse_sparse(path: Path) -> None:
    raise DataError(f"`{path}` holds sparse tensors, which no mlstack package does")


def _parts(message: memoryview, wanted: int) -> Iterator[memoryview]:
    for number, value in _fields(message):
        if number == wanted and isinstance(value, memoryview):
            yield value


def _fields(message: memoryview) -> Iterator[Field]:
    """Yield field numbers with their numbers or bytes; IndexError when it is cut off."""
    position, end = 0, len(message)
    while position < end:
        key, position = _varint(message, position)
        kind, number = key & 7, key >> 3
        if kind == 0:
            value, position = _varint(message, position)
            yield number, value
            continue
        if kind == 2:
            length, position = _varint(message, position)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise IndexError(kind)
        if position + length > end:
            raise IndexError(position + length)
        yield number, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7
    raise IndexError(position)


def _text(value: memoryview) -> str:
    return bytes(value).decode()
