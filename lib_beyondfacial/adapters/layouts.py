"""Checks the shapes in an adapter file's sections; the error sentence names the key."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from ..common import EMBEDDING_SIZE
from ..errors import BeyondFacialError
from .files import Weights

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
CLIP_SIZE = 1280  # CLIP-ViT-H
DIM_HEAD = 64  # of the resamplers' attention
MAX_LAYERS = 32  # of a resampler; published ones have 4
LORA_LEAVES = ("to_q", "to_k", "to_v", "to_out")
SITE_KEY = re.compile(r"([0-9]{1,4})\.to_k_ip\.weight")
LAYER_KEY = re.compile(r"layers\.([0-9]{1,3})\..*")
Tensors = dict[str, Tensor]


def size(tensor: Tensor | None, axis: int) -> int:
    """The size along an axis; 0 if there is no such axis or tensor."""
    return tensor.shape[axis] if tensor is not None and tensor.ndim > axis else 0


def check_mlp(proj: Tensors, tokens: int, name: str) -> tuple[int, int]:
    """(tokens, C) of FaceID's projection: proj.0 (m, 512), proj.2 (tokens * C, m), norm (C), each with a bias."""
    hidden, width = size(proj.get("proj.0.weight"), 0), size(proj.get("norm.weight"), 0)
    _expect_affine(proj, "proj.0", (hidden, EMBEDDING_SIZE), name)
    _expect_affine(proj, "proj.2", (tokens * width, hidden), name)
    _expect_affine(proj, "norm", (width,), name)
    return tokens, width


def check_resampler(proj: Tensors, size_in: int, name: str) -> tuple[int, int]:
    """(tokens, C) of a resampler with its own latents (1, tokens, d): proj_in (d, size_in), proj_out (C, d)."""
    tokens, width = size(proj.get("latents"), 1), size(proj.get("latents"), 2)
    expect("image_proj.latents", proj.get("latents"), (1, tokens, width), name)
    return tokens, _check_layers(proj, "", width, size_in, name)


def check_perceiver(proj: Tensors, tokens: int, name: str) -> tuple[int, int]:
    """(tokens, C) of FaceID-Plus: FaceID's projection, whose tokens then attend to CLIP's in a resampler."""
    _, width = check_mlp(proj, tokens, name)
    width_out = _check_layers(proj, "perceiver_resampler.", width, CLIP_SIZE, name)
    if width_out != width:
        raise incomplete(name, f"has {width_out} channels behind its resampler, not {width}")
    return tokens, width


def _check_layers(proj: Tensors, prefix: str, width: int, size_in: int, name: str) -> int:
    """Check that a resampler's layers and projections fit together; returns its output width."""
    _expect_affine(proj, f"{prefix}proj_in", (width, size_in), name)
    width_out = size(proj.get(f"{prefix}norm_out.weight"), 0)
    _expect_affine(proj, f"{prefix}proj_out", (width_out, width), name)
    _expect_affine(proj, f"{prefix}norm_out", (width_out,), name)
    count = count_layers(proj, prefix)
    if not 0 < count <= MAX_LAYERS:
        raise incomplete(name, "has no layers, gaps in them or too many in its resampler")
    for i in range(count):
        attention, forward = f"{prefix}layers.{i}.0", f"{prefix}layers.{i}.1"
        inner = size(proj.get(f"{attention}.to_q.weight"), 0)
        if inner % DIM_HEAD:
            raise incomplete(name, f"has an attention of width {inner} in image_proj.{attention}")
        hidden = size(proj.get(f"{forward}.1.weight"), 0)
        for norm in (f"{attention}.norm1", f"{attention}.norm2", f"{forward}.0"):
            _expect_affine(proj, norm, (width,), name)
        for leaf, shape in (
            (f"{attention}.to_q", (inner, width)),
            (f"{attention}.to_kv", (2 * inner, width)),
            (f"{attention}.to_out", (width, inner)),
            (f"{forward}.1", (hidden, width)),
            (f"{forward}.3", (width, hidden)),
        ):
            expect(f"image_proj.{leaf}.weight", proj.get(f"{leaf}.weight"), shape, name)
    return width_out


def count_layers(proj: Tensors, prefix: str) -> int:
    """The number of a resampler's layers; 0 if their numbering has gaps."""
    numbers = {int(found[1]) for key in proj if (found := LAYER_KEY.fullmatch(key.removeprefix(prefix)))}
    return len(numbers) if numbers == set(range(len(numbers))) else 0


def check_sites(ip: Tensors, context_dim: int, name: str) -> tuple[int, ...]:
    """The width h of each cross-attention site, whose numbers must be 1, 3, 5, ... without gaps."""
    numbers = sorted(int(found[1]) for found in map(SITE_KEY.fullmatch, ip) if found)
    if not numbers or numbers != list(range(1, 2 * len(numbers), 2)):
        raise incomplete(name, "has gaps in its attention sites")
    widths = tuple(size(ip[f"{n}.to_k_ip.weight"], 0) for n in numbers)
    for n, width in zip(numbers, widths, strict=True):
        for leaf in ("to_k_ip", "to_v_ip"):
            key = f"{n}.{leaf}.weight"
            expect(f"ip_adapter.{key}", ip.get(key), (width, context_dim), name)
    return widths


def check_lora(ip: Tensors, widths: tuple[int, ...], context_dim: int, name: str) -> bool:
    """Whether there is a LoRA; if so, check that it has all layers of attn1 (even N) and attn2 (odd N)."""
    if not any("_lora." in key for key in ip):
        return False
    for n in range(2 * len(widths)):
        width = widths[n // 2]
        for leaf in LORA_LEAVES:
            width_in = context_dim if n % 2 and leaf in ("to_k", "to_v") else width
            down, up = (f"{n}.{leaf}_lora.{side}.weight" for side in ("down", "up"))
            rank = size(ip.get(down), 0)
            expect(f"ip_adapter.{down}", ip.get(down), (rank, width_in), name)
            expect(f"ip_adapter.{up}", ip.get(up), (width, rank), name)
    return True


def check_finite(weights: Weights, name: str) -> None:
    """Check that all numbers that may be used are finite."""
    tensors = (*weights.image_proj.values(), *weights.ip_adapter.values())
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors if tensor.dtype in DTYPES):
        raise incomplete(name, "holds numbers that are not finite")


def expect(key: str, tensor: Tensor | None, shape: tuple[int, ...], name: str) -> None:
    """Check that the tensor exists, has a float dtype and this shape, without empty axes."""
    if tensor is None:
        raise incomplete(name, f"lacks {key}")
    if tensor.dtype not in DTYPES:
        raise incomplete(name, f"holds {tensor.dtype} in {key}")
    if tuple(tensor.shape) != shape or 0 in shape:
        raise incomplete(name, f"has the shape {tuple(tensor.shape)} in {key}, not {shape}")


def incomplete(name: str, what: str) -> BeyondFacialError:
    return BeyondFacialError(f'"{name}" {what}; the file is incomplete or damaged, download it again.')


def _expect_affine(proj: Tensors, leaf: str, shape: tuple[int, ...], name: str) -> None:
    """Check a layer's weight of this shape, and its bias."""
    for part, expected in (("weight", shape), ("bias", shape[:1])):
        expect(f"image_proj.{leaf}.{part}", proj.get(f"{leaf}.{part}"), expected, name)
