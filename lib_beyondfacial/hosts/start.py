"""Identity Aggregation Prepending, the part that no host does its own way (docs/method.md section 3): where each head
will be, what the reference looks like there, and the sampler's start edited in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from torch import Tensor

from ..method.engine import Readings, RunState, compute_semantic_map
from ..method.prepend import Box, box_of_region, prepend_identity, prior_box
from ..method.schedule import Schedule

if TYPE_CHECKING:
    from ..settings import Settings

NEUTRAL = 127
BOX_GATE = 0.6
BAND = 0.75  # share of the box's frequencies per axis
KINSHIP = 0.99  # cosine of the start to the host's noise above which the one is the other, scaled


def find_scale(noise: Tensor, start: Tensor) -> float:
    """By what the host multiplied the noise: by projection, since each sampler scales its own way.

    Where another extension has put a noise of its own in the host's place, the start's spread is the scale.
    """
    noise, start = noise.float(), start.float()
    inner = float((noise * start).sum())
    if inner < KINSHIP * float(noise.norm() * start.norm()):
        return float(start.std())
    return inner / float((noise * noise).sum())


def boxes_of(readings: Readings, batch: int, size: tuple[int, int]) -> list[Box]:
    """Where each image will put its head, by the probe's one-step look-ahead, else the prior."""
    a = compute_semantic_map(readings, size)
    found = [None] * batch if a is None else [box_of_region(one[0].cpu(), BOX_GATE) for one in a]
    prior = prior_box(*size)
    return [box if box is not None and 2 * max(box.size) <= min(size) else prior for box in found]


def edit_latent(
    start: Tensor, scale: float, boxes: list[Box], reference: Callable[[Box], Tensor], strength: float
) -> list[tuple[float, float, float, float]]:
    """Replace the low band of each image's start inside its head box by the reference head's (eq. 11), in place.

    Returns the boxes as shares of the picture.
    """
    noise = start.float() / scale
    latents: dict[Box, Tensor] = {}
    height, width = start.shape[-2:]
    shares = []
    for i, box in enumerate(boxes):
        if box not in latents:
            latents[box] = reference(box).to(noise.device)
        edited = prepend_identity(noise[i], latents[box], box, strength, BAND)
        start[i] += (scale * (edited - noise[i])).to(start.dtype)
        shares.append((box.left / width, box.top / height, box.right / width, box.bottom / height))
    return shares


def reference_latent(
    encode_picture: Callable[[np.ndarray], Tensor], crop: np.ndarray, box: Box, size: tuple[int, int], factor: int
) -> Tensor:
    """The scaled VAE latent of the head, resized in pixels to the box on a neutral ground, encoded, cut out again."""
    picture = np.full((size[0] * factor, size[1] * factor, 3), NEUTRAL, np.uint8)
    h, w = (side * factor for side in box.size)
    head = cv2.resize(crop, (w, h), interpolation=cv2.INTER_AREA)
    oval = np.zeros((h, w), np.float32)
    cv2.ellipse(oval, (w // 2, h // 2), (w // 2, h // 2), 0, 0, 360, 1.0, -1, cv2.LINE_AA)
    y, x = box.top * factor, box.left * factor
    picture[y : y + h, x : x + w] = (
        (NEUTRAL + oval[..., None] * (head.astype(np.float32) - NEUTRAL)).round().astype(np.uint8)
    )
    return encode_picture(picture)[:, box.top : box.bottom, box.left : box.right]


def first_conds(cond: Any) -> Any:
    """Each image's first cond at the pass's first step, a tensor (B, T, C) or SDXL's dict of it."""
    from modules import prompt_parser

    conds_list, text = prompt_parser.reconstruct_multicond_batch(cond, 0)
    firsts = [conds[0][0] for conds in conds_list]
    return {k: v[firsts] for k, v in text.items()} if isinstance(text, dict) else text[firsts]


def pixels_per_latent(width: int, latent_width: int) -> int:
    return width // latent_width if width % latent_width == 0 else 8


def ever_acts(settings: Settings, levels: list[float] | None) -> bool:
    """Whether the identity acts at any level of the pass; if it never does, its start is not prepended either."""
    state = RunState(settings, Schedule.from_levels(levels or [1.0]))
    return settings.weight > 0 and any(state.active(level) for level in state.schedule.levels)
