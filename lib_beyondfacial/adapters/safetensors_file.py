"""Reads safetensors files tensor by tensor, by their header.

The safetensors package either maps the file, or needs the whole file in memory and copies from there; this module
reads each tensor once, into its final memory. A file is: the header's size (8 bytes), the header (JSON: name -> dtype,
shape, start and end behind the header), the tensors.
"""

from __future__ import annotations

import json
from typing import Any, BinaryIO

import torch
from torch import Tensor

from .stored import MAX_TENSORS, RefusedError, StoredTensor, size_of

MAX_HEADER = 8_000_000  # bytes: 1300 tensors take 150 kB
NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}


def looks_like_safetensors(start: bytes) -> bool:
    """Whether the first 9 bytes of a file are those of safetensors."""
    return start[8:9] == b"{"


def read_header(file: BinaryIO, size: int) -> dict[str, StoredTensor]:
    """The tensors of an open file of this size in bytes; RefusedError or ValueError if the header is wrong."""
    length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER:
        raise RefusedError("has a header of more than 8 MB; use another file")
    header = json.loads(file.read(length), parse_int=_short_int)
    header.pop("__metadata__", None)
    if len(header) > MAX_TENSORS:
        raise RefusedError(f"holds more than {MAX_TENSORS} tensors; use another file")
    found = {name: _stored(file, 8 + length, about) for name, about in header.items()}
    places = sorted(tuple(about["data_offsets"]) for about in header.values())
    ends = [0, *(end for _, end in places)]
    if any(start != end for (start, _), end in zip(places, ends, strict=False)) or 8 + length + ends[-1] > size:
        raise RefusedError("is cut off, or its parts overlap; download it again")
    return found


def _short_int(digits: str) -> int:
    """int(), refused for many digits: older Pythons need minutes for a million digits."""
    if len(digits) > 20:
        raise ValueError("a number that is none")
    return int(digits)


def _stored(file: BinaryIO, base: int, about: dict[str, Any]) -> StoredTensor:
    dtype = getattr(torch, NAMES.get(about["dtype"], ""), None)
    if dtype is None:
        raise RefusedError(f'holds numbers in "{str(about["dtype"])[:20]}", which are not read; use it in fp16')
    shape, (start, end) = tuple(about["shape"]), about["data_offsets"]
    if not all(isinstance(each, int) and each >= 0 for each in (*shape, start, end)) or len(shape) > 8:
        raise ValueError("a shape that is none")
    if end - start != size_of(dtype, shape):
        raise ValueError("shape and size differ")
    return StoredTensor(dtype, shape, lambda: _read(file, base + start, dtype, shape))


def _read(file: BinaryIO, at: int, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    tensor = torch.empty(shape, dtype=dtype)
    if tensor.numel():
        file.seek(at)
        if file.readinto(tensor.view(-1).view(torch.uint8).numpy()) != size_of(dtype, shape):  # type: ignore[attr-defined]
            raise EOFError("cut off while it was read")
    return tensor
