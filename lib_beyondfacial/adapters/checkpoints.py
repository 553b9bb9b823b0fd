"""Adapter files: read them safely, tell the families apart by keys and shapes, and check that they are whole."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import BeyondFacialError

SECTIONS = {"image_proj": "image_proj", "ip_adapter": "ip_adapter", "adapter_modules": "ip_adapter"}
EMBEDDING_SIZE = 512
FACEID_TOKENS, PORTRAIT_TOKENS = 4, 16
PROJECTION_KEYS = tuple(f"{part}.{leaf}" for part in ("proj.0", "proj.2", "norm") for leaf in ("weight", "bias"))
SITE_KEY = re.compile(r"([0-9]{1,4})\.to_k_ip\.weight")
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
LORA_LEAVES = ("to_q", "to_k", "to_v", "to_out")
FAMILY_NAMES = {
    "photomaker": "PhotoMaker",
    "pulid": "PuLID",
    "pulid_flux": "PuLID for Flux",
    "faceid_plus": "IP-Adapter FaceID-Plus",
    "instantid": "InstantID or FaceID-Portrait-unnorm",
    "clip_plus": "IP-Adapter Plus",
    "portrait": "IP-Adapter FaceID-Portrait",
    "ip_adapter": "plain IP-Adapter",
    "faceid_lora": "FaceID LoRA",
}


@dataclass(frozen=True, eq=False)
class Weights:
    """An adapter file's tensors by section, on the CPU, in the file's own dtype.

    image_proj: the projection; ip_adapter: keys "N.to_k_ip.weight" and so on; other: what lies in neither.
    """

    image_proj: dict[str, Tensor]
    ip_adapter: dict[str, Tensor]
    other: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class AdapterSpec:
    """What an adapter file is.

    family: "faceid"; the only one so far.
    tokens: identity tokens per face.
    context_dim: C, the width of the text context it was made for.
    site_widths: h of each cross-attention site, in the order of N = 1, 3, 5, ... (sites.adapter_order).
    has_lora: whether it carries a LoRA for attn1 and attn2.
    """

    family: str
    tokens: int
    context_dim: int
    site_widths: tuple[int, ...]
    has_lora: bool


def load_adapter_file(path: Path) -> Weights:
    """Read a .safetensors file (flat keys) or a .bin file (nested dicts, zip form, weights only, no code is run).

    The form is told by the content, not by the file's ending. Raises BeyondFacialError naming the file.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            is_zip = file.read(4) == b"PK\x03\x04"
        flat = _read_torch(path) if is_zip else _read_safetensors(path)
        if any(tensor.layout is not torch.strided or tensor.device.type != "cpu" for tensor in flat.values()):
            raise ValueError("sparse or absent tensors")
    except BeyondFacialError:
        raise
    except FileNotFoundError as error:
        raise BeyondFacialError(f'The adapter file "{path.name}" is gone; put it back or choose another.') from error
    except Exception as error:  # damaged files raise nearly anything in the readers
        raise BeyondFacialError(
            f'"{path.name}" is no .safetensors or .bin weight file, or is damaged; download it again.'
        ) from error
    return _split(flat)


def describe(weights: Weights, name: str = "the adapter") -> AdapterSpec:
    """Recognise the family by keys and shapes, and check that a FaceID file is whole.

    Raises BeyondFacialError for another family, an unknown layout, missing keys or shapes that do not fit together.
    """
    family = recognise(weights)
    if family is None:
        raise BeyondFacialError(f'"{name}" holds no identity adapter; choose an IP-Adapter FaceID file.')
    if family != "faceid":
        raise BeyondFacialError(f'"{name}" is a {FAMILY_NAMES[family]} file; use an IP-Adapter FaceID file.')
    tokens, context_dim = _check_projection(weights.image_proj, name)
    site_widths = _check_sites(weights.ip_adapter, context_dim, name)
    has_lora = _check_lora(weights.ip_adapter, site_widths, context_dim, name)
    _check_finite(weights, name)
    return AdapterSpec(family, tokens, context_dim, site_widths, has_lora)


def recognise(weights: Weights) -> str | None:  # noqa: PLR0911  one line per family, in the order that decides
    """The family by keys and shapes; None where nothing is known. Whether the file is whole is not looked at."""
    proj, other = weights.image_proj, weights.other
    first = {key.split(".")[0] for key in other}
    if {"id_encoder", "lora_weights"} & first:
        return "photomaker"
    if "pulid_ca" in first:
        return "pulid_flux"
    if {"id_adapter_attn_layers", "id_adapter"} & first or {"body.0.weight", "id_embedding_mapping.0.weight"} & set(
        proj
    ):
        return "pulid"
    if "perceiver_resampler.proj_in.weight" in proj:
        return "faceid_plus"
    latents = proj if "latents" in proj else other  # InstantID's also comes without sections
    if "latents" in latents:
        return "instantid" if _size(latents.get("proj_in.weight"), 1) == EMBEDDING_SIZE else "clip_plus"
    if _size(proj.get("proj.0.weight"), 1) == EMBEDDING_SIZE and _size(proj.get("norm.weight"), 0):
        tokens, rest = divmod(_size(proj.get("proj.2.weight"), 0), _size(proj.get("norm.weight"), 0))
        return None if rest else {FACEID_TOKENS: "faceid", PORTRAIT_TOKENS: "portrait"}.get(tokens)
    if "proj.weight" in proj:
        return "ip_adapter"
    if any(key.startswith("lora_unet_") for key in other):
        return "faceid_lora"
    return None


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(path, device="cpu")


def _read_torch(path: Path) -> dict[str, Tensor]:
    """A torch archive as flat keys; nothing is read that would not fit the file's own size."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    size = path.stat().st_size
    if unpacked > size:
        raise ValueError("torch never compresses: this would unpack to more than the file")
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(loaded, Mapping):  # also None, which A1111's checked torch.load returns on refusal
        raise BeyondFacialError(f'"{path.name}" was refused as unsafe or is no weight file; use a .safetensors file.')
    flat = _flatten(loaded)
    if any(tensor.numel() * tensor.element_size() > size for tensor in flat.values()):
        raise ValueError("a tensor is larger than the file")
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
    return Weights(sections["image_proj"], sections["ip_adapter"], sections[""])


def _size(tensor: Tensor | None, axis: int) -> int:
    return tensor.shape[axis] if tensor is not None and tensor.ndim > axis else 0


def _check_projection(proj: dict[str, Tensor], name: str) -> tuple[int, int]:
    """(tokens, context_dim) of a FaceID projection whose six tensors fit together."""
    for key in PROJECTION_KEYS:
        _expect(f"image_proj.{key}", proj.get(key), None, name)
    hidden, width = _size(proj["proj.0.weight"], 0), _size(proj["norm.weight"], 0)
    rows = FACEID_TOKENS * width
    shapes = ((hidden, EMBEDDING_SIZE), (hidden,), (rows, hidden), (rows,), (width,), (width,))
    for key, shape in zip(PROJECTION_KEYS, shapes, strict=True):
        _expect(f"image_proj.{key}", proj[key], shape, name)
    return FACEID_TOKENS, width


def _check_sites(ip: dict[str, Tensor], context_dim: int, name: str) -> tuple[int, ...]:
    """h of each site; N runs 1, 3, 5, ... without a gap."""
    numbers = sorted(int(found[1]) for found in map(SITE_KEY.fullmatch, ip) if found)
    if not numbers or numbers != list(range(1, 2 * len(numbers), 2)):
        raise _incomplete(name, "has gaps in its attention sites")
    widths = tuple(_size(ip[f"{n}.to_k_ip.weight"], 0) for n in numbers)
    for n, width in zip(numbers, widths, strict=True):
        for leaf in ("to_k_ip", "to_v_ip"):
            key = f"{n}.{leaf}.weight"
            _expect(f"ip_adapter.{key}", ip.get(key), (width, context_dim), name)
    return widths


def _check_lora(ip: dict[str, Tensor], widths: tuple[int, ...], context_dim: int, name: str) -> bool:
    """Whether a LoRA is there; if so it is whole: every leaf of attn1 (even N) and attn2 (odd N)."""
    if not any("_lora." in key for key in ip):
        return False
    for n in range(2 * len(widths)):
        width = widths[n // 2]
        for leaf in LORA_LEAVES:
            width_in = context_dim if n % 2 and leaf in ("to_k", "to_v") else width
            down, up = (f"{n}.{leaf}_lora.{side}.weight" for side in ("down", "up"))
            rank = _size(ip.get(down), 0)
            _expect(f"ip_adapter.{down}", ip.get(down), (rank, width_in), name)
            _expect(f"ip_adapter.{up}", ip.get(up), (width, rank), name)
    return True


def _check_finite(weights: Weights, name: str) -> None:
    tensors = (*weights.image_proj.values(), *weights.ip_adapter.values())
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors if tensor.dtype in DTYPES):
        raise _incomplete(name, "holds numbers that are not finite")


def _expect(key: str, tensor: Tensor | None, shape: tuple[int, ...] | None, name: str) -> None:
    if tensor is None:
        raise _incomplete(name, f"lacks {key}")
    if tensor.dtype not in DTYPES:
        raise _incomplete(name, f"holds {tensor.dtype} in {key}")
    if shape is not None and (tuple(tensor.shape) != shape or 0 in shape):
        raise _incomplete(name, f"has the shape {tuple(tensor.shape)} in {key}, not {shape}")


def _incomplete(name: str, what: str) -> BeyondFacialError:
    return BeyondFacialError(f'"{name}" {what}; the file is incomplete or damaged, download it again.')
