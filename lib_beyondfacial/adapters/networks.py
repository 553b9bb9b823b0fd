"""The projections' networks as functions of a file's section `image_proj`, in fp32."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .layouts import DIM_HEAD, Tensors, count_layers


def project_mlp(proj: Tensors, embedding: Tensor) -> Tensor:
    """IP-Adapter FaceID's projection: Linear 512 -> m, exact GELU, Linear -> T * C, reshape, LayerNorm over C.

    Args:
        proj: proj.0, proj.2, norm, each with weight and bias.
        embedding: (B, 512).

    Returns (B, T, C) in fp32.
    """
    hidden = F.gelu(linear(proj, "proj.0", embedding.float()))
    tokens = linear(proj, "proj.2", hidden)
    return layer_norm(proj, "norm", tokens.reshape(len(tokens), -1, proj["norm.weight"].shape[0]))


def project_resampler(proj: Tensors, embedding: Tensor) -> Tensor:
    """InstantID's projection: learned latents attend to one embedding in a resampler.

    Args:
        proj: latents (1, T, d) and the resampler's leaves.
        embedding: (B, 512), not normalised.

    Returns (B, T, C) in fp32.
    """
    latents = proj["latents"].float().expand(len(embedding), -1, -1)
    return resample(proj, "", latents, embedding.float()[:, None])


def resample(proj: Tensors, prefix: str, latents: Tensor, x: Tensor) -> Tensor:
    """A Perceiver resampler (Alayrac et al., Flamingo; IP-Adapter's layout).

        x = proj_in(x);  per layer: latents += attention(latents; x, latents),  latents += feed_forward(latents)
        norm_out(proj_out(latents))

    Args:
        prefix: of the resampler's leaves in proj, "" or "perceiver_resampler.".
        latents: (B, T, d).
        x: (B, n, size_in).

    Returns (B, T, C).
    """
    x = linear(proj, f"{prefix}proj_in", x)
    for i in range(count_layers(proj, prefix)):
        latents = latents + _attend(proj, f"{prefix}layers.{i}.0", latents, x)
        latents = latents + _feed_forward(proj, f"{prefix}layers.{i}.1", latents)
    return layer_norm(proj, f"{prefix}norm_out", linear(proj, f"{prefix}proj_out", latents))


def linear(proj: Tensors, leaf: str, x: Tensor) -> Tensor:
    """A linear layer of the file; without a bias where the file has none."""
    bias = proj.get(f"{leaf}.bias")
    return F.linear(x, _cast(proj[f"{leaf}.weight"], x), None if bias is None else _cast(bias, x))


def layer_norm(proj: Tensors, leaf: str, x: Tensor) -> Tensor:
    """A LayerNorm of the file, over the last axis."""
    return F.layer_norm(x, x.shape[-1:], _cast(proj[f"{leaf}.weight"], x), _cast(proj[f"{leaf}.bias"], x))


def _attend(proj: Tensors, layer: str, latents: Tensor, x: Tensor) -> Tensor:
    """Queries from the latents; keys and values from x and the latents, each behind its own norm."""
    x, latents = layer_norm(proj, f"{layer}.norm1", x), layer_norm(proj, f"{layer}.norm2", latents)
    query = linear(proj, f"{layer}.to_q", latents)
    keys, values = linear(proj, f"{layer}.to_kv", torch.cat([x, latents], dim=1)).chunk(2, dim=-1)
    heads = [part.unflatten(-1, (-1, DIM_HEAD)).transpose(1, 2) for part in (query, keys, values)]
    attended = F.scaled_dot_product_attention(*heads)
    return linear(proj, f"{layer}.to_out", attended.transpose(1, 2).flatten(2))


def _feed_forward(proj: Tensors, layer: str, latents: Tensor) -> Tensor:
    return linear(proj, f"{layer}.3", F.gelu(linear(proj, f"{layer}.1", layer_norm(proj, f"{layer}.0", latents))))


def _cast(tensor: Tensor, x: Tensor) -> Tensor:
    return tensor.to(x.device, x.dtype)
