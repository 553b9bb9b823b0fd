"""Reads weight files safely, with their numbers or only as shapes: runs no code, maps no file, unpacks no archive."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from ..common import open_regular
from ..errors import BeyondFacialError
from . import safetensors_file, torch_archive
from .stored import RefusedError, StoredTensor, wide_enough

SECTIONS = {
    "image_proj": "image_proj",
    "image_proj_model": "image_proj",  # as training scripts export it
    "ip_adapter": "ip_adapter",
    "adapter_modules": "ip_adapter",
}
BARE_PROJECTION = re.compile(r"(latents|proj_in|proj_out|norm_out|layers|proj|norm|perceiver_resampler)(\..*)?")
BARE_SITE = re.compile(r"[0-9]{1,4}\.to_(k_ip|v_ip|[qkv]_lora|out_lora)\..*")
ZIP_MAGIC = b"PK\x03\x04"
MAX_SHARED = 4  # torch archives may contain a tensor twice; more often is an attack
SCALED_FP8 = re.compile(r"scaled_fp8$|\.(scale_weight|weight_scale)$")
OTHERS = (  # files that users mistake for weight files, by their first bytes
    (
        rb"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46",
        "was saved by a torch before 1.6, which is not read; use a .safetensors file",
    ),
    (rb"\x80[\x02-\x05]", "is a Python pickle and no weight file; use a .safetensors file"),
    (rb"\s*<(!doctype )?html", "is a web page, saved in the place of the file; download the file itself"),
    (rb"version https://git-lfs", "is a Git LFS pointer, not the file itself; download the file"),
    (rb"GGUF", "is a GGUF file, which holds no adapter; use another file"),
    (rb"\x1f\x8b|Rar!|7z\xbc\xaf|.{257}ustar", "is an archive, not a weight file; unpack it"),
    (rb"\0{512}", "holds only zeros at its start, as a broken download does; download it again"),
    (rb"$", "is empty; download it again"),
    (rb"", "is no .safetensors or .bin weight file, or is damaged; download it again"),
)


@dataclass(frozen=True, eq=False)
class Weights:
    """An adapter file's tensors by section, on the CPU, in the file's own dtype.

    image_proj: the projection; ip_adapter: keys "N.to_k_ip.weight" and so on; other: all other tensors.
    """

    image_proj: dict[str, Tensor]
    ip_adapter: dict[str, Tensor]
    other: dict[str, Tensor] = field(default_factory=dict)


def load_adapter_file(path: Path) -> Weights:
    """Read a .safetensors file (flat keys) or a torch archive (nested dicts), without running code from it.

    The format is recognised by the content, not by the file's ending. 8-bit floats become 16-bit ones. Raises
    BeyondFacialError naming the file and what it is.
    """
    return _split(read_tensors(path, "adapter file"))


def peek_adapter_file(path: Path) -> Weights:
    """Like load_adapter_file, but with shapes and dtypes only: tensors on the meta device; reads a few kilobytes."""
    return _split(read_tensors(path, "adapter file", is_peek=True))


def read_tensors(path: Path, kind: str, prefix: str = "", is_peek: bool = False) -> dict[str, Tensor]:
    """The tensors of a weight file by flat key, copied to memory; only keys that begin with the prefix.

    Args:
        kind: the word for the file in error sentences.
        is_peek: tensors on the meta device instead.
    """
    path = Path(path)
    try:
        with open_regular(path) as file:
            before = os.fstat(file.fileno())
            found = _read(file, before.st_size, prefix, is_peek)
            after = os.fstat(file.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise RefusedError("was changed while it was read; try again when it is complete")
    except RefusedError as error:
        raise BeyondFacialError(f'"{path.name}" {error}.') from error
    except FileNotFoundError as error:
        raise BeyondFacialError(f'The {kind} "{path.name}" is gone; put it back or choose another.') from error
    except Exception as error:  # damaged files cause many kinds of exceptions in the readers
        raise BeyondFacialError(
            f'"{path.name}" is no .safetensors or .bin weight file, or is damaged; download it again.'
        ) from error
    return found


def _read(file: BinaryIO, size: int, prefix: str, is_peek: bool) -> dict[str, Tensor]:
    start = file.read(512)
    file.seek(0)
    if start.startswith(ZIP_MAGIC):
        with torch_archive.open_archive(file, size) as archive:
            return _tensors(torch_archive.read_index(archive, size), size, prefix, is_peek)
    if safetensors_file.looks_like_safetensors(start):
        return _tensors(safetensors_file.read_header(file, size), size, prefix, is_peek)
    raise RefusedError(next(what for magic, what in OTHERS if re.match(magic, start, re.DOTALL | re.IGNORECASE)))


def _tensors(stored: dict[str, StoredTensor], size: int, prefix: str, is_peek: bool) -> dict[str, Tensor]:
    sizes = [each.size for each in stored.values()]
    if max(sizes, default=0) > size or sum(sizes) > MAX_SHARED * size:
        raise RefusedError("says that its tensors are larger than the file; use another file")
    if any(SCALED_FP8.search(key) for key in stored):
        raise RefusedError("is in 8-bit floats with scales of their own, which are not read; use it in fp16")
    wanted = {key: each for key, each in stored.items() if key.startswith(prefix)}
    if is_peek:
        return {key: torch.empty(e.shape, dtype=wide_enough(e.dtype), device="meta") for key, e in wanted.items()}
    return {key: each.read().to(wide_enough(each.dtype)) for key, each in wanted.items()}


def _split(flat: dict[str, Tensor]) -> Weights:
    sections: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}, "": {}}
    for key, tensor in flat.items():
        first, _, rest = key.partition(".")
        section = SECTIONS.get(first, "")
        sections[section][rest if section else key] = tensor
    if not sections["image_proj"] and not sections["ip_adapter"]:
        sections = _split_bare(sections[""])
    return Weights(sections["image_proj"], sections["ip_adapter"], sections[""])


def _split_bare(flat: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Split a file without section names (some copies of InstantID) into sections, by its keys."""
    sections: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}, "": {}}
    for key, tensor in flat.items():
        in_projection, in_sites = BARE_PROJECTION.fullmatch(key), BARE_SITE.fullmatch(key)
        sections["image_proj" if in_projection else "ip_adapter" if in_sites else ""][key] = tensor
    return sections
