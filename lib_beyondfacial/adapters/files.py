"""Weight files: read safely, whole or only as shapes. Nothing is run, nothing unpacks to more than the file holds."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import BeyondFacialError

SECTIONS = {
    "image_proj": "image_proj",
    "image_proj_model": "image_proj",  # as training scripts export it
    "ip_adapter": "ip_adapter",
    "adapter_modules": "ip_adapter",
}
BARE_PROJECTION = re.compile(r"(latents|proj_in|proj_out|norm_out|layers|proj|norm|perceiver_resampler)(\..*)?")
BARE_SITE = re.compile(r"[0-9]{1,4}\.to_(k_ip|v_ip|[qkv]_lora|out_lora)\..*")
ZIP_MAGIC = b"PK\x03\x04"
MAX_SHARED = 4  # times: torch archives may say a tensor twice; a file that says it a thousand times is a trap
SAFETENSORS_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
}


@dataclass(frozen=True, eq=False)
class Weights:
    """An adapter file's tensors by section, on the CPU, in the file's own dtype.

    image_proj: the projection; ip_adapter: keys "N.to_k_ip.weight" and so on; other: what lies in neither.
    """

    image_proj: dict[str, Tensor]
    ip_adapter: dict[str, Tensor]
    other: dict[str, Tensor] = field(default_factory=dict)


def load_adapter_file(path: Path) -> Weights:
    """Read a .safetensors file (flat keys) or a .bin file (nested dicts, zip form, weights only, no code is run).

    The form is told by the content, not by the file's ending. Raises BeyondFacialError naming the file.
    """
    return _split(read_tensors(path, "adapter file"))


def peek_adapter_file(path: Path) -> Weights:
    """As load_adapter_file, but shapes and dtypes only: tensors on the meta device, a few kilobytes read."""
    return _split(_guarded(Path(path), "adapter file", _peek_torch, _peek_safetensors))


def read_tensors(path: Path, kind: str) -> dict[str, Tensor]:
    """All tensors of a weight file by flat key; kind names the file in sentences."""
    return _guarded(Path(path), kind, _read_torch, _read_safetensors)


def _guarded(path: Path, kind: str, *readers: Callable[[Path], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Read by the reader of zip files or of others; whatever goes wrong becomes a sentence."""
    try:
        with path.open("rb") as file:
            is_zip = file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
        flat = readers[0 if is_zip else 1](path)
    except BeyondFacialError:
        raise
    except FileNotFoundError as error:
        raise BeyondFacialError(f'The {kind} "{path.name}" is gone; put it back or choose another.') from error
    except Exception as error:  # damaged files raise nearly anything in the readers
        raise BeyondFacialError(
            f'"{path.name}" is no .safetensors or .bin weight file, or is damaged; download it again.'
        ) from error
    return flat


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return _checked(load_file(path, device="cpu"), path.stat().st_size)


def _peek_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import safe_open

    flat: dict[str, Tensor] = {}
    with safe_open(path, framework="pt", device="cpu") as file:
        for key in file.keys():  # noqa: SIM118  no mapping
            part = file.get_slice(key)
            dtype = SAFETENSORS_DTYPES.get(part.get_dtype(), torch.uint8)
            flat[key] = torch.empty(part.get_shape(), dtype=dtype, device="meta")
    return flat


def _read_torch(path: Path) -> dict[str, Tensor]:
    return _load_torch(path)


def _peek_torch(path: Path) -> dict[str, Tensor]:
    """The file's bytes are mapped into memory, not read."""
    return {key: tensor.to("meta") for key, tensor in _load_torch(path, mmap=True).items()}


def _load_torch(path: Path, **options: Any) -> dict[str, Tensor]:
    """A torch archive as flat keys; nothing is read that would not fit the file's own size."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    size = path.stat().st_size
    if unpacked > size:
        raise ValueError("torch never compresses: this would unpack to more than the file")
    loaded = torch.load(str(path), map_location="cpu", weights_only=True, **options)
    if not isinstance(loaded, Mapping):  # also None, which A1111's checked torch.load returns on refusal
        raise BeyondFacialError(f'"{path.name}" was refused as unsafe or is no weight file; use a .safetensors file.')
    return _checked(_flatten(loaded), size)


def _checked(flat: dict[str, Tensor], size: int) -> dict[str, Tensor]:
    if any(tensor.layout is not torch.strided or tensor.device.type != "cpu" for tensor in flat.values()):
        raise ValueError("sparse or absent tensors")
    sizes = [tensor.numel() * tensor.element_size() for tensor in flat.values()]
    if max(sizes, default=0) > size or sum(sizes) > MAX_SHARED * size:
        raise ValueError("the tensors are larger than the file")
    return flat


def _flatten(nested: Mapping[Any, Any], prefix: str = "", depth: int = 0) -> dict[str, Tensor]:
    if depth > 4:
        raise ValueError("nested too deeply")
    flat: dict[str, Tensor] = {}
    for key, value in nested.items():
        if isinstance(value, Tensor):
            flat[f"{prefix}{key}"] = value
        elif isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.", depth + 1)
    return flat


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
    """Sections of a file that comes without their names (InstantID's sometimes does), told by the keys."""
    sections: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}, "": {}}
    for key, tensor in flat.items():
        in_projection, in_sites = BARE_PROJECTION.fullmatch(key), BARE_SITE.fullmatch(key)
        sections["image_proj" if in_projection else "ip_adapter" if in_sites else ""][key] = tensor
    return sections
