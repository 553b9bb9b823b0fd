"""The names of an ONNX file's first nodes, read without the onnx package.

insightface tells by them how a model wants its pixels: models converted from MXNet subtract the mean themselves.
The file is protobuf: ModelProto.graph is field 7, GraphProto.node field 1, NodeProto.name field 3.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

GRAPH, NODE, NAME = 7, 1, 3
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def first_node_names(path: Path, count: int = 8) -> list[str]:
    """Names of the first nodes of an ONNX file's graph, in order; "" where a node has none.

    Raises ValueError where the file is no protobuf.
    """
    names: list[str] = []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for field, start, stop in _fields(data, 0, len(data)):
            if field != GRAPH:
                continue
            for inner, node_start, node_stop in _fields(data, start, stop):
                if inner == NODE:
                    names.append(_name(data, node_start, node_stop))
                if len(names) == count:
                    return names
    return names


def _name(data: mmap.mmap, start: int, stop: int) -> str:
    for field, at, end in _fields(data, start, stop):
        if field == NAME:
            return data[at:end].decode("utf-8", "replace")
    return ""


def _fields(data: mmap.mmap, at: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """(number, start, stop) of each length-delimited field of a message; the others are stepped over."""
    while at < stop:
        key, at = _varint(data, at, stop)
        kind = key & 7
        if kind == VARINT:
            _, at = _varint(data, at, stop)
            continue
        if kind == BYTES:
            size, at = _varint(data, at, stop)
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
        else:
            raise ValueError("no protobuf")
        if at + size > stop:
            raise ValueError("cut off")
        if kind == BYTES:
            yield key >> 3, at, at + size
        at += size


def _varint(data: mmap.mmap, at: int, stop: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if at >= stop:
            raise ValueError("cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("no varint")
