"""Reads torch archives (.bin, .pt, .pth since 2020): a zip with a pickle that names the tensors, and their numbers."""

from __future__ import annotations

import functools
import struct
import zipfile
from typing import BinaryIO

import torch
from torch import Tensor

from .pickled import MAX_PICKLE, PickledTensor, pickled_tensors
from .stored import RefusedError, StoredTensor

MAX_MEMBERS = 50_000
MAX_DIRECTORY = 8_000_000  # bytes: a member takes about a hundred
BLOCK = 1 << 24


def open_archive(file: BinaryIO, size: int) -> zipfile.ZipFile:
    """Open an archive; RefusedError if its directory is too large, since zipfile needs a kilobyte for each entry."""
    tail = min(size, 65_557)
    file.seek(size - tail)
    end = file.read(tail)
    at = end.rfind(b"PK\5\6")
    if at < 0 or len(end) - at < 22:
        raise RefusedError("is cut off; download it again")
    (directory,) = struct.unpack_from("<I", end, at + 12)
    if at >= 20 and end[at - 20 : at - 16] == b"PK\6\7":
        file.seek(struct.unpack_from("<Q", end, at - 12)[0] + 40)
        (directory,) = struct.unpack("<Q", file.read(8))
    if directory > MAX_DIRECTORY:
        raise RefusedError("is an archive of far too many files; use another file")
    return zipfile.ZipFile(file)


def read_index(archive: zipfile.ZipFile, size: int) -> dict[str, StoredTensor]:
    """The tensors of an archive of this size in bytes; RefusedError, ValueError and others if it is wrong.

    The archive must stay open until the tensors are read.
    """
    members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise RefusedError("is an archive, not a weight file; unpack it")
    if len(members) > MAX_MEMBERS or sum(member.file_size for member in members) > size:
        raise RefusedError("would unpack to more than it holds, or to far too many files; use another file")
    index = [member for member in members if member.filename.count("/") == 1 and member.filename.endswith("/data.pkl")]
    if len(index) != 1:
        raise RefusedError("is an archive, not a weight file; unpack it")
    root = index[0].filename.partition("/")[0]
    sizes = {member.filename: member.file_size for member in members}
    if f"{root}/byteorder" in sizes and archive.read(f"{root}/byteorder")[:10].strip() == b"big":
        raise RefusedError("was saved on a machine of another byte order; use a .safetensors file")
    with archive.open(index[0]) as file:
        pickled = pickled_tensors(file.read(MAX_PICKLE + 1))
    storage = functools.cache(functools.partial(_read_member, archive))
    return {key: _stored(tensor, root, sizes, storage) for key, tensor in pickled.items()}


def _stored(
    tensor: PickledTensor, root: str, sizes: dict[str, int], storage: functools._lru_cache_wrapper
) -> StoredTensor:
    member, width = f"{root}/data/{tensor.storage.key}", torch.empty((), dtype=tensor.dtype).element_size()
    last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride, strict=True))
    if 0 not in tensor.shape and (last + 1) * width > sizes[member]:
        raise RefusedError("is cut off: a tensor is larger than its part of the file; download it again")
    return StoredTensor(tensor.dtype, tensor.shape, lambda: _read(tensor, member, storage))


def _read(tensor: PickledTensor, member: str, storage: functools._lru_cache_wrapper) -> Tensor:
    if 0 in tensor.shape:
        return torch.empty(tensor.shape, dtype=tensor.dtype)
    return storage(member).view(tensor.dtype).as_strided(tensor.shape, tensor.stride, tensor.offset)


def _read_member(archive: zipfile.ZipFile, member: str) -> Tensor:
    """The bytes of a storage, checked by the archive's CRC; tensors that share a storage share this memory."""
    size = archive.getinfo(member).file_size
    found, at = torch.empty(size, dtype=torch.uint8), 0
    view = memoryview(found.numpy())  # type: ignore[arg-type]
    with archive.open(member) as file:
        while block := file.read(BLOCK):
            view[at : at + len(block)] = block
            at += len(block)
    if at != size:
        raise EOFError("cut off while it was read")
    return found
