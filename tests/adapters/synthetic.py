"""Adapter files of the true layouts with random weights, of any width and number of sites."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from lib_beyondfacial.adapters.files import Weights

FAMILIES = ("faceid", "portrait", "faceid_plus", "faceid_plus_v2", "portrait_unnorm", "instantid")
LEAVES = ("to_q", "to_k", "to_v", "to_out")
CLIP_SIZE = 1280


def face_features(
    unit: Tensor, norm: float = 20.0, photos: Tensor | None = None, clip: Tensor | None = None
) -> dict[str, Tensor]:
    """Every feature, of unit embeddings (B, 512); without photos these are the photos', without CLIP it sees ones."""
    return {
        "arcface": unit,
        "arcface_raw": unit * norm,
        "arcface_photos": unit if photos is None else photos,
        "clip": torch.ones(1, 257, CLIP_SIZE) if clip is None else clip,
    }


class Draw:
    """Weights of about unit gain."""

    def __init__(self, seed: int):
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator) / shape[-1] ** 0.5

    def affine(self, leaf: str, *shape: int) -> dict[str, Tensor]:
        """A Linear's weight and bias, or a LayerNorm's."""
        weight = self(*shape) if len(shape) > 1 else 1 + self(*shape)
        return {f"{leaf}.weight": weight, f"{leaf}.bias": self(shape[0])}


def random_family(
    family: str,
    widths: Sequence[int],
    context_dim: int,
    lora_rank: int = 0,
    seed: int = 0,
    hidden: int = 1024,
    width: int = 128,
    depth: int = 4,
) -> Weights:
    """A file of a family: `width` is InstantID's d (1280 in the published file), `hidden` FaceID's m (1024)."""
    draw = Draw(seed)
    if family in ("instantid", "portrait_unnorm"):
        proj = {"latents": draw(1, 16, width), **random_resampler(draw, "", width, 512, context_dim, depth)}
        proj["proj_in.weight"] /= 8  # a raw embedding is about 20 long
    else:
        proj = random_mlp(draw, context_dim, 16 if family == "portrait" else 4, hidden)
    if family in ("faceid_plus", "faceid_plus_v2"):
        proj |= random_resampler(draw, "perceiver_resampler.", context_dim, CLIP_SIZE, context_dim, depth)
    return Weights(proj, random_sites(draw, widths, context_dim, lora_rank))


def random_adapter(
    widths: Sequence[int], context_dim: int, lora_rank: int = 0, tokens: int = 4, seed: int = 0, hidden: int = 1024
) -> Weights:
    """A FaceID file (Portrait with tokens=16): six projection tensors, K and V for odd N, a LoRA for every N."""
    draw = Draw(seed)
    return Weights(random_mlp(draw, context_dim, tokens, hidden), random_sites(draw, widths, context_dim, lora_rank))


def random_mlp(draw: Draw, context_dim: int, tokens: int, hidden: int) -> dict[str, Tensor]:
    proj = draw.affine("proj.0", hidden, 512) | draw.affine("proj.2", context_dim * tokens, hidden)
    proj["proj.0.weight"] *= 8
    proj["proj.2.weight"] *= 2
    return proj | draw.affine("norm", context_dim)


def random_resampler(
    draw: Draw, prefix: str, width: int, size_in: int, size_out: int, depth: int
) -> dict[str, Tensor]:
    inner = width // 64 * 64 or 64
    proj = draw.affine("proj_in", width, size_in) | draw.affine("proj_out", size_out, width)
    proj |= draw.affine("norm_out", size_out)
    for layer in (f"layers.{i}" for i in range(depth)):
        proj |= draw.affine(f"{layer}.0.norm1", width) | draw.affine(f"{layer}.0.norm2", width)
        proj |= {
            f"{layer}.0.to_q.weight": draw(inner, width),
            f"{layer}.0.to_kv.weight": draw(2 * inner, width),
            f"{layer}.0.to_out.weight": draw(width, inner),
        }
        proj |= draw.affine(f"{layer}.1.0", width)
        proj |= {f"{layer}.1.1.weight": draw(4 * width, width), f"{layer}.1.3.weight": draw(width, 4 * width)}
    return {prefix + key: tensor for key, tensor in proj.items()}


def random_sites(draw: Draw, widths: Sequence[int], context_dim: int, lora_rank: int) -> dict[str, Tensor]:
    ip: dict[str, Tensor] = {}
    for i, width in enumerate(widths):
        ip[f"{2 * i + 1}.to_k_ip.weight"] = draw(width, context_dim) * 2
        ip[f"{2 * i + 1}.to_v_ip.weight"] = draw(width, context_dim) * 2
        for n in (2 * i, 2 * i + 1) if lora_rank else ():
            for leaf in LEAVES:
                width_in = context_dim if n % 2 and leaf in ("to_k", "to_v") else width
                ip[f"{n}.{leaf}_lora.down.weight"] = draw(lora_rank, width_in)
                ip[f"{n}.{leaf}_lora.up.weight"] = draw(width, lora_rank)
    return ip


def flat_keys(weights: Weights, section: str = "ip_adapter") -> dict[str, Tensor]:
    """As a .safetensors file holds them."""
    flat = {f"image_proj.{key}": tensor for key, tensor in weights.image_proj.items()}
    flat |= {f"{section}.{key}": tensor for key, tensor in weights.ip_adapter.items()}
    return {key: tensor.clone() for key, tensor in (flat | weights.other).items()}


def cast(weights: Weights, dtype: torch.dtype) -> Weights:
    """The same file in another dtype."""
    return Weights(
        *({key: t.to(dtype) for key, t in part.items()} for part in (weights.image_proj, weights.ip_adapter))
    )


def write(weights: Weights, path: Path) -> Path:
    """As the file's ending says: .safetensors with flat keys, else nested in a torch archive."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(flat_keys(weights), path)
    else:
        torch.save({"image_proj": weights.image_proj, "ip_adapter": weights.ip_adapter, **weights.other}, path)
    return path
