"""Reads an ONNX file without the onnx package: the names of its first nodes, and whether its numbers are elsewhere.

The names show how to scale the pixels, as in insightface: models converted from MXNet subtract the mean themselves.
The file is protobuf: ModelProto.graph is field 7, GraphProto.node field 1 and .initializer field 5, NodeProto.name
field 3, TensorProto.external_data field 13.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..common import open_regular

GRAPH, NODE, INITIALIZER, NAME, EXTERNAL_DATA = 7, 1, 5, 3, 13
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_NAME = 1000  # letters
MAX_FIELDS = 100_000  # fields of one message; published models have some hundreds


def first_node_names(path: Path, count: int = 8) -> list[str]:
    """The names of the first nodes of an ONNX file's graph, in order; "" for a node without name.

    Raises ValueError if the file is no protobuf.
    """
    names: list[str] = []
    with open_regular(path) as file:
        for field, start, stop in _graph_fields(file):
            if field == NODE:
                names.append(_name(file, start, stop))
            if len(names) == count:
                break
    return names


def has_external_data(path: Path) -> bool:
    """Whether the model's numbers are in other files, which onnxruntime would map; False if that is unknown."""
    try:
        with open_regular(path) as file:
            return any(
                field == INITIALIZER and any(inner == EXTERNAL_DATA for inner, _, _ in _fields(file, start, stop))
                for field, start, stop in _graph_fields(file)
            )
    except (OSError, ValueError):
        return False


def _graph_fields(file: BinaryIO) -> Iterator[tuple[int, int, int]]:
    for field, start, stop in _fields(file, 0, os.fstat(file.fileno()).st_size):
        if field == GRAPH:
            yield from _fields(file, start, stop)


def _name(file: BinaryIO, start: int, stop: int) -> str:
    for field, at, end in _fields(file, start, stop):
        if field == NAME:
            file.seek(at)
            return file.read(min(end - at, MAX_NAME)).decode("utf-8", "replace")
    return ""


def _fields(file: BinaryIO, at: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """(number, start, stop) of each length-delimited field of a message; other fields are skipped."""
    for _ in range(MAX_FIELDS):
        if at >= stop:
            return
        file.seek(at)
        key = _varint(file)
        kind = key & 7
        if kind == VARINT:
            _varint(file)
        size = _varint(file) if kind == BYTES else {VARINT: 0, FIXED64: 8, FIXED32: 4}.get(kind, -1)
        start = file.tell()
        at = start + size
        if size < 0 or at > stop:
            raise ValueError("no protobuf, or cut off")
        if kind == BYTES:
            yield key >> 3, start, at
    raise ValueError("far too many fields")


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 64, 7):
        byte = file.read(1)
        if not byte:
            raise ValueError("cut off")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError("no varint")
