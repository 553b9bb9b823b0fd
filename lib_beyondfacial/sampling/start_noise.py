"""Identity Aggregation Prepending for a sampler's start (docs/method.md section 3): the boxes of the heads, and the
encoded reference for them."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor

from ..method.mask import compute_semantic_map
from ..method.predictions import AttentionReadings
from ..method.start_noise import Box, box_of_region, prior_box

GREY = 127
BOX_GATE = 0.6
BAND = 0.75  # share of the box's frequencies per axis
SAME_NOISE_COSINE = 0.99  # if the cosine of start and host noise is above this, the start is the scaled noise


def find_scale(noise: Tensor, start: Tensor) -> float:
    """The factor by which the host multiplied the noise, by projection: each sampler scales in another way.

    If another extension has replaced the host's noise, the factor is the standard deviation of the start.
    """
    noise, start = noise.float(), start.float()
    inner = float((noise * start).sum())
    if inner < SAME_NOISE_COSINE * float(noise.norm() * start.norm()):
        return float(start.std())
    return inner / float((noise * noise).sum())


def find_head_boxes(readings: AttentionReadings, batch: int, size: tuple[int, int]) -> list[Box]:
    """The box of each picture's head, from the probe's readings of a look-ahead, else the usual box."""
    a = compute_semantic_map(readings, size)
    found = [None] * batch if a is None else [box_of_region(one[0].cpu(), BOX_GATE) for one in a]
    prior = prior_box(*size)
    return [box if box is not None and 2 * max(box.size) <= min(size) else prior for box in found]


def encode_reference(
    encode_images: Callable[[Tensor], Tensor], crop: np.ndarray, box: Box, size: tuple[int, int], factor: int
) -> Tensor:
    """The scaled latent (C, h, w) of the head: pasted on grey at the box's place and size, encoded, cut to the box.

    Args:
        crop: RGB uint8, the reference's head. size: (H, W) of the latents. factor: px per latent px.
    """
    picture = np.full((size[0] * factor, size[1] * factor, 3), GREY, np.uint8)
    h, w = (side * factor for side in box.size)
    head = cv2.resize(crop, (w, h), interpolation=cv2.INTER_AREA)
    ellipse = np.zeros((h, w), np.float32)
    cv2.ellipse(ellipse, (w // 2, h // 2), (w // 2, h // 2), 0, 0, 360, (1.0,), -1, cv2.LINE_AA)
    y, x = box.top * factor, box.left * factor
    picture[y : y + h, x : x + w] = (
        (GREY + ellipse[..., None] * (head.astype(np.float32) - GREY)).round().astype(np.uint8)
    )
    pixels = torch.from_numpy(picture).permute(2, 0, 1).float() / 127.5 - 1
    return encode_images(pixels[None])[0, :, box.top : box.bottom, box.left : box.right]


def pixels_per_latent(width: int, latent_width: int) -> int:
    return width // latent_width if width % latent_width == 0 else 8
