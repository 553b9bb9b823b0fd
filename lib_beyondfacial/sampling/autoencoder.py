"""The host's autoencoder, asked for several pictures at once: those of one size together, up to an area."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import torch
from torch import Tensor

from .host import Host

Key = TypeVar("Key", bound=Hashable)


class NoPictureError(Exception):
    """The autoencoder gave numbers that are not finite."""


def decode_each(host: Host, latents: Mapping[Key, Tensor], area: int) -> dict[Key, Tensor]:
    """The pictures (3, H, W) in [-1, 1] of latents (C, h, w).

    area: latent px that one call has at most, unless a picture alone has more; so it needs no more memory than that.
    """
    decoded = in_calls(host.decode_latents, latents, area)
    return {key: picture.clamp(-1, 1) for key, picture in decoded.items()}


def encode_each(host: Host, pictures: Mapping[Key, Tensor], area: int) -> dict[Key, Tensor]:
    """The latents (C, h, w) of pictures (3, H, W) in [-1, 1]; area: px that one call has at most."""
    return in_calls(host.encode_images, pictures, area)


def in_calls(call: Callable[[Tensor], Tensor], given: Mapping[Key, Tensor], area: int) -> dict[Key, Tensor]:
    """The row of `call` for each tensor, in fp32; those of one size are asked for together, up to this area."""
    by_size: dict[torch.Size, list[Key]] = {}
    for key, tensor in given.items():
        by_size.setdefault(tensor.shape[-2:], []).append(key)
    answers: dict[Key, Tensor] = {}
    for size, keys in by_size.items():
        count = max(1, area // size.numel())
        for part in (keys[at : at + count] for at in range(0, len(keys), count)):
            rows = call(torch.stack([given[key] for key in part]))
            if not torch.isfinite(rows).all():
                raise NoPictureError
            answers.update(zip(part, rows.float(), strict=True))
    return answers
