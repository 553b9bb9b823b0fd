"""Identity Aggregation Prepending in A1111: the sampler's start, edited in place (docs/method.md section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from torch import Tensor

from ..method.engine import Readings, compute_semantic_map
from ..method.prepend import Box, box_of_region, prepend_identity, prior_box
from . import a1111_model as model
from .unet_sites import Probe, RowLedger, enumerate_sites, hooked

if TYPE_CHECKING:
    from .a1111 import Run

NEUTRAL = 127
BOX_GATE = 0.6
BAND = 0.75  # share of the box's frequencies per axis


def edit_start(p: Any, run: Run, sampler: Any) -> None:
    """Replace the low band of each image's start inside its head box by the reference head's (eq. 11)."""
    start = sampler.last_latent
    if start is None or run.noise is None or run.noise.shape != start.shape:
        run.handle.warn("BeyondFacial: the start of this sampler could not be found; it was left as it is.")
        return
    noise = run.noise.float()
    scaled = start.float()
    # What the host did to the noise: by projection, since each sampler scales its own way.
    scale = float((noise * scaled).sum() / (noise * noise).sum())
    noise = scaled / scale
    boxes = look_ahead(p, run, sampler)
    latents: dict[Box, Tensor] = {}
    height, width = start.shape[-2:]
    for i, box in enumerate(boxes):
        if box not in latents:
            latents[box] = reference_latent(p, run.handle.plan.identity.crop, box, (height, width))
        edited = prepend_identity(noise[i], latents[box], box, run.settings.idap_strength, BAND)
        start[i] += (scale * (edited - noise[i])).to(start.dtype)
        run.handle.boxes.append((box.left / width, box.top / height, box.right / width, box.bottom / height))


def look_ahead(p: Any, run: Run, sampler: Any) -> list[Box]:
    """Where each image will put its head: one step of the semantic line with the head probe, else the prior."""
    from modules import prompt_parser

    start = sampler.last_latent
    batch, size = len(start), tuple(start.shape[-2:])
    extra = sampler.sampler_extra_args
    conds_list, text = prompt_parser.reconstruct_multicond_batch(extra["cond"], 0)
    firsts = [conds[0][0] for conds in conds_list]
    cond = {k: v[firsts] for k, v in text.items()} if isinstance(text, dict) else text[firsts]
    sites = enumerate_sites(model.unet_of(p))
    probe = Probe(sites, *model.probe_contexts(p, run.settings.subject))
    first = max(run.levels) if run.levels else float(p.sd_model.alphas_cumprod.shape[0] - 1)
    inner_model = sampler.model_wrap_cfg.inner_model
    with torch.no_grad(), hooked(probe.attach(RowLedger(batch))):
        sigma = torch.full((batch,), first, device=start.device, dtype=start.dtype)
        inner_model(start, sigma, cond=model.cond_dict(cond, extra["image_cond"], 0, batch))
    run.handle.identity_rows += batch
    readings = Readings(head=probe.result(model.HEAD), person=probe.result(model.PERSON))
    a = compute_semantic_map(readings, size)
    found = [None] * batch if a is None else [box_of_region(one[0].cpu(), BOX_GATE) for one in a]
    prior = prior_box(*size)
    return [box if box is not None and 2 * max(box.size) <= min(size) else prior for box in found]


def reference_latent(p: Any, crop: np.ndarray, box: Box, size: tuple[int, int]) -> Tensor:
    """The scaled VAE latent of the head, resized in pixels to the box on a neutral ground, encoded, cut out again."""
    factor = p.width // size[1] if p.width % size[1] == 0 else 8
    picture = np.full((size[0] * factor, size[1] * factor, 3), NEUTRAL, np.uint8)
    h, w = (side * factor for side in box.size)
    head = cv2.resize(crop, (w, h), interpolation=cv2.INTER_AREA)
    oval = np.zeros((h, w), np.float32)
    cv2.ellipse(oval, (w // 2, h // 2), (w // 2, h // 2), 0, 0, 360, 1.0, -1, cv2.LINE_AA)
    y, x = box.top * factor, box.left * factor
    picture[y : y + h, x : x + w] = (
        (NEUTRAL + oval[..., None] * (head.astype(np.float32) - NEUTRAL)).round().astype(np.uint8)
    )
    return model.encode_picture(p, picture)[:, box.top : box.bottom, box.left : box.right]
