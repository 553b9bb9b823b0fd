"""Adapter files of the true layout with random weights, of any width and number of sites."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from lib_beyondfacial.adapters.files import Weights


def random_adapter(
    widths: Sequence[int], context_dim: int, lora_rank: int = 0, tokens: int = 4, seed: int = 0, hidden: int = 1024
) -> Weights:
    """A FaceID file (Portrait with tokens=16): six projection tensors, K and V for odd N, a LoRA for every N."""
    generator = torch.Generator().manual_seed(seed)

    def weight(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) / shape[-1] ** 0.5

    proj = {
        "proj.0.weight": weight(hidden, 512) * 8,
        "proj.0.bias": weight(hidden),
        "proj.2.weight": weight(context_dim * tokens, hidden) * 2,
        "proj.2.bias": weight(context_dim * tokens),
        "norm.weight": 1 + weight(context_dim),
        "norm.bias": weight(context_dim),
    }
    ip: dict[str, Tensor] = {}
    for i, width in enumerate(widths):
        ip[f"{2 * i + 1}.to_k_ip.weight"] = weight(width, context_dim) * 2
        ip[f"{2 * i + 1}.to_v_ip.weight"] = weight(width, context_dim) * 2
        for n in (2 * i, 2 * i + 1) if lora_rank else ():
            for leaf in ("to_q", "to_k", "to_v", "to_out"):
                width_in = context_dim if n % 2 and leaf in ("to_k", "to_v") else width
                ip[f"{n}.{leaf}_lora.down.weight"] = weight(lora_rank, width_in)
                ip[f"{n}.{leaf}_lora.up.weight"] = weight(width, lora_rank)
    return Weights(proj, ip)


def flat_keys(weights: Weights, section: str = "ip_adapter") -> dict[str, Tensor]:
    """As a .safetensors file holds them."""
    flat = {f"image_proj.{key}": tensor for key, tensor in weights.image_proj.items()}
    flat |= {f"{section}.{key}": tensor for key, tensor in weights.ip_adapter.items()}
    return {key: tensor.clone() for key, tensor in (flat | weights.other).items()}


@pytest.fixture(scope="session")
def make_adapter():
    """random_adapter(widths, context_dim, lora_rank=0, tokens=4, seed=0)"""
    return random_adapter


@pytest.fixture(scope="session")
def flatten():
    """flat_keys(weights, section="ip_adapter")"""
    return flat_keys
